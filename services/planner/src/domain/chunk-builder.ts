import { MillraceError, whyNotJson } from '@millrace/core';
import type { Bytes } from './chunk-buffers.ts';

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

/** A key that a source may give is a non-empty string or a finite number. */
export function checkKey(key: unknown, job: string, index: number): asserts key is string | number {
  if (typeof key === 'number' && Number.isFinite(key)) return;
  if (typeof key === 'string' && key !== '' && key.length <= 1_024 && !UNSTORABLE.test(key)) return;
  throw new MillraceError(
    'MR1005',
    `item ${index} of job "${job}" has the key ${typeof key === 'string' ? (key === '' || key.length > 1_024 ? `of ${key.length} characters` : JSON.stringify(key)) : String(key)}`,
  );
}

/** Items up to this size wait for the rest of their chunk to be turned into JSON, if a copy of them is cheap. */
const SMALL = 4 * 1024;
/** What a character becomes in JSON, at most: `\u001f`. The size of a flat item is counted before that, so a chunk of such texts may be larger than `CHUNK_BYTES`. */
const BYTES_PER_CHARACTER = 6;

/**
 * Cuts a stream of items into chunks. Each item is turned into JSON here, once: flat ones (fields that are texts, numbers, booleans,
 * null) together when their chunk is cut, since a call costs as much as half an item. They are copied when they come: a source
 * may yield the same object again, changed.
 */
export class ChunkBuilder {
  readonly #job: string;
  readonly #limitOf: () => number;
  #limit: number;
  readonly #largest: number;
  readonly #small: number;
  readonly #buffers: Bytes;
  #seq: number;
  #keys: (string | number)[] = [];
  /** JSON arrays of items, and the items after them. */
  #texts: string[] = [];
  #flat: [key: string | number, data: unknown][] = [];
  #bytes = 0;

  /** `limit` is asked once for each chunk. */
  constructor(job: string, firstSeq: number, limit: () => number = () => CHUNK_ITEMS, largest = LARGEST_ITEM, buffers: Bytes = Buffer) {
    this.#job = job;
    this.#limitOf = limit;
    this.#limit = limit();
    this.#largest = largest;
    this.#small = Math.min(SMALL, largest / BYTES_PER_CHARACTER);
    this.#seq = firstSeq;
    this.#buffers = buffers;
  }

  /** The number of the chunk that the next item goes into. */
  get seq(): number {
    return this.#seq;
  }

  get size(): number {
    return this.#keys.length;
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
    const plain = isPlain(data);
    const copy = plain ? { ...data } : data;
    const size = scalarSize(key) + (plain ? fieldsSize(copy as Record<string, unknown>) : scalarSize(copy));
    if (size <= this.#small) {
      this.#flat.push([key, copy]);
      this.#bytes += size;
    } else {
      const text = this.#textOf(key, copy);
      this.#close();
      this.#texts.push(text);
      this.#bytes += text.length > ITEM_BYTES / 4 ? Buffer.byteLength(text) : text.length;
    }
    this.#keys.push(key);
    return this.#keys.length >= this.#limit || this.#bytes >= CHUNK_BYTES ? this.cut() : undefined;
  }

  /** The chunk so far, or undefined when it is empty. */
  cut(): BuiltChunk | undefined {
    if (this.#keys.length === 0) return undefined;
    this.#close();
    const [first, ...more] = this.#texts;
    const text = more.length === 0 ? (first as string) : `[${this.#texts.map((part) => part.slice(1, -1)).join(',')}]`;
    const chunk = { seq: this.#seq++, size: this.#keys.length, payload: this.#buffers.from(text) };
    this.#keys = [];
    this.#texts = [];
    this.#bytes = 0;
    this.#limit = this.#limitOf();
    return chunk;
  }

  #close(): void {
    if (this.#flat.length === 0) return;
    this.#texts.push(JSON.stringify(this.#flat));
    this.#flat = [];
  }

  #textOf(key: string | number, data: unknown): string {
    const why = whyNotJson(data);
    if (why) throw new MillraceError('MR1006', `item "${key}" of job "${this.#job}": ${why}`);
    const text = JSON.stringify([[key, data]]);
    const bytes = text.length > this.#largest / 3 ? Buffer.byteLength(text) : text.length;
    if (bytes > this.#largest)
      throw new MillraceError(
        'MR1007',
        `item "${key}" of job "${this.#job}" is ${Math.ceil(bytes / 1024)} KiB; at most ${Math.floor(this.#largest / 1024)} KiB are allowed`,
      );
    return text;
  }
}

function isPlain(data: unknown): data is Record<string, unknown> {
  if (typeof data !== 'object' || data === null) return false;
  const prototype = Object.getPrototypeOf(data);
  return prototype === Object.prototype || prototype === null;
}

/** About how many characters of JSON an object without any depth becomes; Infinity if it has depth, or is none. */
function fieldsSize(object: Record<string, unknown>): number {
  let size = 8;
  for (const name in object) {
    const value = object[name];
    // An absent field and an undefined one read the same afterwards.
    if (value !== undefined) size += name.length + 4 + scalarSize(value);
  }
  return size;
}

function scalarSize(value: unknown): number {
  switch (typeof value) {
    case 'string':
      return value.length + 2;
    case 'number':
      if (!Number.isFinite(value)) return Number.POSITIVE_INFINITY;
      return Number.isInteger(value) ? 8 : 18;
    case 'boolean':
      return 5;
    default:
      return value === null ? 4 : Number.POSITIVE_INFINITY;
  }
}
