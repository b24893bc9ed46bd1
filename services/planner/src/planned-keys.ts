import { KeySet } from './domain/key-set.ts';

/** Where the keys of chunks can be read again. */
export interface KeySource {
  /** Chunks that are stored, in order, from this one on; none when there are no more. */
  stored(fromSeq: number, chunks: number): Promise<readonly { readonly seq: number; readonly keys: readonly string[] }[]>;
  /** The keys of a chunk that is in memory, be it finished or not. */
  inMemory(seq: number): readonly string[] | undefined;
  /** The number of the chunk that is not finished yet: its keys change. */
  unfinished(): number;
  /** Resolves when everything that is on its way into the store has arrived. */
  settled(): Promise<void>;
}

/** `new`, or planned already: by this pass of the source (a duplicate), or by an earlier planner of the run (`seen` for the first time). */
export type Sighting = 'new' | 'duplicate' | 'seen';

/** Chunks read back in one go. */
const PAGE = 32;
/** Chunks whose keys are held after they were looked at. */
const HELD = 16;

/**
 * The keys that a run has planned. Keys that only ever grow cannot repeat: as long as a source keeps to an order, just the last one is
 * remembered. The first that does not makes it read back what was planned, and from then on each key costs 12 bytes.
 */
export class PlannedKeys {
  readonly #source: KeySource;
  /** Keys of the last few chunks that were read back. */
  readonly #held = new Map<number, ReadonlySet<string>>();
  #last: string | number | undefined;
  #all: KeySet | undefined;

  constructor(source: KeySource) {
    this.#source = source;
  }

  /** Continues the plan of earlier planners: the first `seen` of their keys count as yielded in this pass. */
  async recall(seen: number): Promise<void> {
    const all = new KeySet();
    let index = 0;
    for (let next = 0; ; ) {
      const page = await this.#source.stored(next, PAGE);
      for (const { seq, keys } of page) {
        for (const key of keys) all.add(key, seq, index++ < seen);
        next = seq + 1;
      }
      if (page.length > 0) continue;
      for (let keys = this.#source.inMemory(next); keys; keys = this.#source.inMemory(++next))
        for (const key of keys) all.add(key, next, true);
      break;
    }
    this.#all = all;
  }

  /** What the key is, as the source gave it; a new one goes into chunk `seq`. */
  sight(key: string | number, seq: number): Sighting | Promise<Sighting> {
    if (this.#all) return this.#lookUp(this.#all, String(key), seq);
    if (!isAfter(key, this.#last)) return this.#disorder(key, seq);
    this.#last = key;
    return 'new';
  }

  async #disorder(key: string | number, seq: number): Promise<Sighting> {
    await this.#source.settled();
    await this.recall(Number.POSITIVE_INFINITY);
    return this.sight(key, seq);
  }

  #lookUp(all: KeySet, text: string, seq: number): Sighting | Promise<Sighting> {
    const candidates = all.candidates(text);
    if (candidates.length > 0) return this.#compare(all, candidates, text, seq);
    all.add(text, seq, true);
    return 'new';
  }

  /** A hash only finds candidates: the real keys of their chunks decide. */
  async #compare(all: KeySet, candidates: ReturnType<KeySet['candidates']>, text: string, seq: number): Promise<Sighting> {
    for (const candidate of candidates) {
      if (!(await this.#keysOf(candidate.seq)).has(text)) continue;
      if (candidate.seen) return 'duplicate';
      all.markSeen(candidate);
      return 'seen';
    }
    all.add(text, seq, true);
    return 'new';
  }

  async #keysOf(seq: number): Promise<ReadonlySet<string>> {
    if (seq === this.#source.unfinished()) return new Set(this.#source.inMemory(seq));
    const held = this.#held.get(seq);
    if (held) return held;
    const keys = new Set(this.#source.inMemory(seq) ?? (await this.#source.stored(seq, 1)).find((chunk) => chunk.seq === seq)?.keys);
    for (const old of this.#held.keys()) {
      if (this.#held.size < HELD) break;
      this.#held.delete(old);
    }
    this.#held.set(seq, keys);
    return keys;
  }
}

function isAfter(key: string | number, last: string | number | undefined): boolean {
  return last === undefined || (typeof key === typeof last && key > last);
}
