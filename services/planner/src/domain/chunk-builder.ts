import { MillraceError, whyNotJson } from '@millrace/core';

/** Items per chunk, and bytes: a message stays inside one AMQP frame of 128 KiB. */
export const CHUNK_ITEMS = 500;
export const CHUNK_BYTES = 112 * 1024;
/** What an item may have to travel with its chunk; a bigger one stays in the plan, and its processor fetches it. */
export const ITEM_BYTES = 256 * 1024;
export const CLAIM_BYTES = CHUNK_BYTES + ITEM_BYTES;
export const LARGEST_ITEM = 16 * 1024 * 1024;

export interface BuiltChunk {
  readonly seq: number;
  readonly size: number;
  /** JSON array of [key, data], in UTF-8: as it is stored and as it travels. */
  readonly payload: Buffer;
}

/** PostgreSQL, which lists keys, has no NUL and no half of a surrogate pair in its texts. */
const UNSTORABLE = /[\0\p{Cs}]/u;

/** The text of a key that a source may give: a non-empty string or a finite number. */
export function keyText(key: unknown, job: string, index: number): string {
  if (typeof key === 'number' && Number.isFinite(key)) return String(key);
  if (typeof key === 'string' && key !== '' && key.length <= 1_024 && !UNSTORABLE.test(key)) return key;
  throw new MillraceError(
    'MR1005',
    `item ${index} of job "${job}" has the key ${typeof key === 'string' ? (key === '' || key.length > 1_024 ? `of ${key.length} characters` : JSON.stringify(key)) : String(key)}`,
  );
}

/** Cuts a stream of items into chunks. Each item is turned into JSON here, once. */
export class ChunkBuilder {
  readonly #job: string;
  readonly #limitOf: () => number;
  #limit: number;
  readonly #largest: number;
  #seq: number;
  #keys: (string | number)[] = [];
  #texts: string[] = [];
  #bytes = 0;

  /** `limit` is asked once for each chunk. */
  constructor(job: string, firstSeq: number, limit: () => number = () => CHUNK_ITEMS, largest = LARGEST_ITEM) {
    this.#job = job;
    this.#limitOf = limit;
    this.#limit = limit();
    this.#largest = largest;
    this.#seq = firstSeq;
  }

  /** The number of the chunk that the next item goes into. */
  get seq(): number {
    return this.#seq;
  }

  get size(): number {
    return this.#texts.length;
  }

  /** Of the chunk that is not cut yet. */
  get openKeys(): readonly string[] {
    return this.#keys.map(String);
  }

  /**
   * Adds an item; returns the chunk when that filled it. A key that is a number stays one: a parser makes every short string unique
   * in its process, which takes as long as the rest of a small item.
   */
  add(key: string | number, data: unknown): BuiltChunk | undefined {
    const why = whyNotJson(data);
    if (why) throw new MillraceError('MR1006', `item "${key}" of job "${this.#job}": ${why}`);
    const text = JSON.stringify([key, data]);
    const bytes = text.length > ITEM_BYTES / 4 ? Buffer.byteLength(text) : text.length;
    if (bytes > this.#largest)
      throw new MillraceError(
        'MR1007',
        `item "${key}" of job "${this.#job}" is ${Math.ceil(bytes / 1024)} KiB; at most ${Math.floor(this.#largest / 1024)} KiB are allowed`,
      );
    this.#keys.push(key);
    this.#texts.push(text);
    this.#bytes += bytes;
    return this.#texts.length >= this.#limit || this.#bytes >= CHUNK_BYTES ? this.cut() : undefined;
  }

  /** The chunk so far, or undefined when it is empty. */
  cut(): BuiltChunk | undefined {
    if (this.#texts.length === 0) return undefined;
    const chunk = { seq: this.#seq++, size: this.#texts.length, payload: Buffer.from(`[${this.#texts.join(',')}]`) };
    this.#keys = [];
    this.#texts = [];
    this.#bytes = 0;
    this.#limit = this.#limitOf();
    return chunk;
  }
}
