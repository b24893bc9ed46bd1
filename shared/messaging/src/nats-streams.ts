import { MillraceError, STREAMS } from '@millrace/core';
import { DiscardPolicy, type JetStreamManager, jetstreamManager, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { type NatsConnection, nanos } from 'nats';
import { PARKED_STREAM, type StreamShape } from './parking.ts';

const DAY = 24 * 3_600_000;
/** Long enough for a reader that was away over a long weekend; the ledger is the record, not the stream. */
const MAX_AGE = 7 * DAY;
const PARKED_MAX_AGE = 90 * DAY;

/**
 * Creates what is missing. Streams that exist stay as the operator made them (replicas, age), if they cover the subjects. Where the
 * server does not let this user look, or create, that is for somebody else to do: whoever needs the stream waits for it.
 */
export class NatsStreams {
  readonly #nc: NatsConnection;
  readonly #replicas: number;
  #manager: Promise<JetStreamManager> | undefined;
  #running: Promise<void> | undefined;

  constructor(nc: NatsConnection, replicas: number) {
    this.#nc = nc;
    this.#replicas = replicas;
  }

  manager(): Promise<JetStreamManager> {
    // Without the check: it would fail for good where JetStream is only late.
    this.#manager ??= jetstreamManager(this.#nc, { checkAPI: false });
    return this.#manager;
  }

  /** Callers that come together share one round. */
  ensure(): Promise<void> {
    this.#running ??= this.#ensureAll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #ensureAll(): Promise<void> {
    for (const shape of [...Object.values(STREAMS), PARKED_STREAM]) await this.#ensureOne(shape);
  }

  async #ensureOne({ name, subjects }: StreamShape): Promise<void> {
    const { streams } = await this.manager();
    const existing = await streams.info(name).catch((error: unknown) => {
      if (apiCodeOf(error) === 10059) return undefined;
      if (isForbidden(error)) return 'hidden' as const;
      throw error;
    });
    if (existing === 'hidden') return;
    if (existing === undefined) {
      await streams
        .add({
          name,
          subjects: [...subjects],
          storage: StorageType.File,
          retention: RetentionPolicy.Limits,
          discard: DiscardPolicy.Old,
          num_replicas: this.#replicas,
          max_age: nanos(name === PARKED_STREAM.name ? PARKED_MAX_AGE : MAX_AGE),
        })
        .catch((error: unknown) => {
          // 10058: another process was quicker.
          if (apiCodeOf(error) !== 10058 && !isForbidden(error)) throw error;
        });
      return;
    }
    const missing = subjects.filter((subject) => !existing.config.subjects.includes(subject));
    if (missing.length > 0) throw new MillraceError('MR3011', `stream ${name} does not cover ${missing.join(', ')}`);
  }
}

/** The number that JetStream gives an error, see its errors.json. */
export function apiCodeOf(error: unknown): number | undefined {
  const apiError = (error as { apiError?: () => { err_code: number } })?.apiError;
  return typeof apiError === 'function' ? apiError.call(error).err_code : undefined;
}

/** The HTTP-like class of an API error: 4xx says "never", 5xx says "not now". */
export function apiStatusOf(error: unknown): number | undefined {
  const apiError = (error as { apiError?: () => { code: number } })?.apiError;
  return typeof apiError === 'function' ? apiError.call(error).code : undefined;
}

/** The permissions of this user on the server do not cover it. */
export function isForbidden(error: unknown): boolean {
  const { name, cause } = (error ?? {}) as Partial<Error>;
  return [name, (cause as Partial<Error> | undefined)?.name].includes('PermissionViolationError');
}
