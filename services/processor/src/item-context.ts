import { type Chunk, type ChunkItem, itemIdOf, keyOf } from '@millrace/core';
import { type Log, type ProcessContext, type Reject, reject, type Skip, skip } from 'millrace';

/** What `process` is given beside the item. Whatever costs something is made when it is first asked for. */
export class ItemContext implements ProcessContext {
  readonly #chunk: Chunk;
  readonly #item: ChunkItem;
  readonly log: Log;
  #itemId: string | undefined;
  #abort: AbortController | undefined;

  constructor(chunk: Chunk, item: ChunkItem, log: Log) {
    this.#chunk = chunk;
    this.#item = item;
    this.log = log;
  }

  // Not methods that use `this`: user code takes them apart, `({ skip, reject })`.
  skip(reason: string): Skip {
    return skip(reason);
  }

  reject(reason: string): Reject {
    return reject(reason);
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  get itemId(): string {
    this.#itemId ??= itemIdOf(this.#chunk.runId, keyOf(this.#item));
    return this.#itemId;
  }

  get attempt(): number {
    return this.#chunk.attempt;
  }

  get tick(): { readonly id: string; readonly at: Date } {
    return { id: this.#chunk.tick, at: new Date(this.#chunk.tickAt) };
  }

  get params(): Chunk['params'] {
    return this.#chunk.params;
  }

  /** Aborts the signal if anybody holds it. */
  abort(reason: unknown): void {
    this.#abort?.abort(reason);
  }
}
