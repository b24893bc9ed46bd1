import type { Milliseconds } from '@millrace/core';
import type { Platform } from '@millrace/runtime';
import { Trouble } from './trouble.ts';

/** One round: the work, and the rest after it. */
interface Round {
  readonly woken: AbortController;
  resting: boolean;
}

/** Work that is done again and again by several hands, each resting in between until somebody wakes it. */
export class Loops {
  readonly #platform: Pick<Platform, 'time' | 'random' | 'log'>;
  /** Those that can be woken: not those in trouble. */
  readonly #rounds = new Set<Round>();

  constructor(platform: Pick<Platform, 'time' | 'random' | 'log'>) {
    this.#platform = platform;
  }

  /**
   * Does `work` now, then at least every `every` ms (with jitter) and whenever it is woken, until `signal` aborts. What fails is done again
   * after a pause that grows: what has changed meanwhile would fail as well. Of several `hands` each does it now and when it is woken; one
   * whose pause is over goes on resting if another has begun meanwhile, since one is enough to ask for what there is:
   * when that one is busy for long, another follows within two pauses.
   */
  async run(what: string, every: Milliseconds, signal: AbortSignal, work: () => Promise<void>, hands = 1): Promise<void> {
    const begun = { rounds: 0 };
    await Promise.all(Array.from({ length: hands }, () => this.#run(what, every, signal, work, begun)));
  }

  async #run(what: string, every: Milliseconds, signal: AbortSignal, work: () => Promise<void>, begun: { rounds: number }): Promise<void> {
    const { time, random, log } = this.#platform;
    const trouble = new Trouble(what, random, log);
    while (!signal.aborted) {
      const round: Round = { woken: new AbortController(), resting: false };
      this.#rounds.add(round);
      let pause = every * (0.75 + random() / 2);
      begun.rounds++;
      try {
        await work();
        trouble.over();
      } catch (error) {
        if (signal.aborted) break;
        pause = Math.max(pause, trouble.met(error));
        this.#rounds.delete(round);
      }
      round.resting = true;
      const awake = this.#rounds.has(round) ? AbortSignal.any([signal, round.woken.signal]) : signal;
      let before: number;
      do {
        before = begun.rounds;
        await time.sleep(pause, awake);
      } while (!awake.aborted && begun.rounds !== before);
      this.#rounds.delete(round);
    }
  }

  wakeAll(): void {
    for (const { woken } of this.#rounds) woken.abort();
  }

  /** Wakes one that rests; when all are at work, each goes on for another round. */
  wakeOne(): void {
    const resting = this.#resting();
    if (resting) resting.woken.abort();
    else this.wakeAll();
  }

  /** Keeps one that rests from being woken by others. Returns what wakes it, or another one when it has woken by itself meanwhile. */
  reserve(): (() => void) | undefined {
    const round = this.#resting();
    if (!round) return undefined;
    round.resting = false;
    return () => {
      if (this.#rounds.has(round)) round.woken.abort();
      else this.wakeOne();
    };
  }

  #resting(): Round | undefined {
    for (const round of this.#rounds) if (round.resting && !round.woken.signal.aborted) return round;
    return undefined;
  }
}
