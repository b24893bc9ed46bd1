import { setTimeout as delay } from 'node:timers/promises';
import type { Fleet } from './fleet.ts';
import type { Progress } from './progress.ts';
import { seconds } from './seconds.ts';

const EVERY = 500;
const SAY_EVERY = 10_000;

/** Looks all the time, while faults strike, at how far the work has come and at how much memory it takes. */
export class Watch {
  /** The most that one process of a service took, in MiB. */
  readonly memory = new Map<string, number>();
  /** Milliseconds in which no chunk was settled. */
  longestPause = 0;
  readonly #fleet: Fleet;
  readonly #progress: Progress;
  readonly #say: (line: string) => void;

  constructor(fleet: Fleet, progress: Progress, say: (line: string) => void) {
    this.#fleet = fleet;
    this.#progress = progress;
    this.#say = say;
  }

  async until(signal: AbortSignal): Promise<void> {
    const began = performance.now();
    let last = { at: began, settled: 0 };
    let said = began;
    while (!signal.aborted) {
      for (const [process, used] of this.#fleet.memory()) {
        const service = process.split(' ')[0] as string;
        this.memory.set(service, Math.max(this.memory.get(service) ?? 0, used));
      }
      const stand = await this.#progress.now().catch(() => undefined);
      const now = performance.now();
      if (stand !== undefined && stand.inbox !== last.settled) last = { at: now, settled: stand.inbox };
      this.longestPause = Math.max(this.longestPause, now - last.at);
      if (now - said > SAY_EVERY) {
        said = now;
        const far = stand
          ? `settled ${stand.inbox}, plan ${stand.plan}, ledger ${stand.ledger}, open ${stand.open}`
          : 'the database is away';
        this.#say(`  ${seconds(now - began)}: ${far}`);
      }
      await delay(EVERY, undefined, { signal }).catch(() => {});
    }
  }
}
