/**
 * The keys that a run has planned, in 12 bytes per key: two 32-bit hashes and the chunk that holds the key. The hash only finds
 * candidates; the caller compares the real keys of that chunk, so a collision can never swallow an item.
 *
 * After a crash the source may yield again what is stored already. The first sighting of such a key in the new pass is
 * no duplicate: `seen` tells the two apart.
 */
const SEEN = 0x8000_0000;

export interface Candidate {
  readonly slot: number;
  readonly seq: number;
  /** Already yielded in this pass of the source. */
  readonly seen: boolean;
}

export class KeySet {
  size = 0;
  #capacity: number;
  #slots: Uint32Array;

  constructor(capacity = 1 << 12) {
    this.#capacity = capacity;
    this.#slots = new Uint32Array(capacity * 3);
  }

  /** Chunks that may hold the key; almost always none or one. */
  candidates(key: string): readonly Candidate[] {
    const [a, b] = hash(key);
    let found: Candidate[] | undefined;
    for (let slot = a & (this.#capacity - 1); this.#at(slot, 2) !== 0; slot = (slot + 1) & (this.#capacity - 1)) {
      if (this.#at(slot, 0) !== a || this.#at(slot, 1) !== b) continue;
      const mark = this.#at(slot, 2);
      found ??= [];
      found.push({ slot, seq: (mark & ~SEEN) - 1, seen: mark >>> 31 === 1 });
    }
    return found ?? NONE;
  }

  add(key: string, seq: number, seen: boolean): void {
    if (this.size * 10 >= this.#capacity * 6) this.#grow();
    const [a, b] = hash(key);
    this.#insert(a, b, ((seq + 1) | (seen ? SEEN : 0)) >>> 0);
    this.size++;
  }

  markSeen(candidate: Candidate): void {
    const at = candidate.slot * 3 + 2;
    this.#slots[at] = ((this.#slots[at] as number) | SEEN) >>> 0;
  }

  #at(slot: number, field: 0 | 1 | 2): number {
    return this.#slots[slot * 3 + field] as number;
  }

  #insert(a: number, b: number, mark: number): void {
    let slot = a & (this.#capacity - 1);
    while (this.#at(slot, 2) !== 0) slot = (slot + 1) & (this.#capacity - 1);
    const at = slot * 3;
    this.#slots[at] = a;
    this.#slots[at + 1] = b;
    this.#slots[at + 2] = mark;
  }

  #grow(): void {
    const old = this.#slots;
    this.#capacity *= 2;
    this.#slots = new Uint32Array(this.#capacity * 3);
    for (let at = 0; at < old.length; at += 3) {
      if (old[at + 2] !== 0) this.#insert(old[at] as number, old[at + 1] as number, old[at + 2] as number);
    }
  }
}

const NONE: readonly Candidate[] = [];
const pair: [number, number] = [0, 0];
let hashed = '';

/** Two multiplicative hashes in one pass, finished as in MurmurHash3. A key that is looked for and then added is hashed once. */
function hash(key: string): readonly [number, number] {
  if (key === hashed) return pair;
  hashed = key;
  let a = 0x9e37_79b9;
  let b = 0x85eb_ca6b;
  for (let i = 0; i < key.length; i++) {
    const c = key.charCodeAt(i);
    a = Math.imul(a ^ c, 0x0100_0193);
    b = Math.imul(b ^ c, 0x5bd1_e995) ^ (b >>> 15);
  }
  pair[0] = finish(a ^ b);
  pair[1] = finish(b ^ key.length);
  return pair;
}

function finish(h: number): number {
  let x = h;
  x = Math.imul(x ^ (x >>> 16), 0x85eb_ca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2_ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
