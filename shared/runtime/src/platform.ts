import type { Time } from '@millrace/core';
import type { EventBroker, WorkBroker } from '@millrace/messaging';
import type { Database } from '@millrace/postgres';
import type { Job } from 'millrace';

/** What every service is given: adapters for everything outside the process, already connected. */
export interface Platform {
  /** Name of this process: host-pid-suffix. */
  readonly instance: string;
  readonly time: Time;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  /** `DATABASE_URL`, or PGlite in the data directory. */
  readonly database: Database;
  /** RabbitMQ, or memory. */
  readonly work: WorkBroker;
  /** NATS JetStream, or memory. */
  readonly events: EventBroker;
  /** The user's jobs by name; empty for clock, audit and console. */
  readonly jobs: ReadonlyMap<string, Job>;
  /** Where the jobs were loaded from; undefined when the caller brought them, so that no other process can load them. */
  readonly jobsPath?: string;
}

/** A part that runs until it is stopped. `stop` before `start`, and twice, are fine. */
export interface Service {
  readonly name: string;
  start(): Promise<void>;
  /** Takes nothing new, finishes what runs within `graceMs` (default: the service's own), lets go of the rest. */
  stop(graceMs?: number): Promise<void>;
  /** Reasons for not being ready, for /readyz; [] = ready. */
  ready(): readonly string[];
}

/** Structured log in pino's shape. */
export interface Logger {
  debug(fields: object, message?: string): void;
  debug(message: string): void;
  info(fields: object, message?: string): void;
  info(message: string): void;
  warn(fields: object, message?: string): void;
  warn(message: string): void;
  error(fields: object, message?: string): void;
  error(message: string): void;
  child(fields: Record<string, unknown>): Logger;
}
