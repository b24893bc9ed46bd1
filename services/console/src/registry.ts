import { JOBS_BUCKET, type JobManifest } from '@millrace/core';
import type { EventBroker } from '@millrace/messaging';

/** The jobs that planners have made known. */
export interface Registry {
  list(): Promise<readonly JobManifest[]>;
}

export class BucketRegistry implements Registry {
  readonly #events: EventBroker;

  constructor(events: EventBroker) {
    this.#events = events;
  }

  async list(): Promise<readonly JobManifest[]> {
    const entries = await this.#events.bucket(JOBS_BUCKET).entries();
    return [...entries.values()].map((text) => JSON.parse(text) as JobManifest).sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}
