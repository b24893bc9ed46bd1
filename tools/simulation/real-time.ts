import { setTimeout as delay } from 'node:timers/promises';
import { Faults } from './faults.ts';
import { SimProcess } from './process.ts';
import { Random } from './random.ts';
import { Scheduler } from './scheduler.ts';

/** A simulated world for suites that know real time only: its own time goes on as fast. Nothing goes wrong in it by itself. */
export class RealTime {
  readonly scheduler: Scheduler;
  readonly random = new Random(1);
  readonly faults = new Faults(new Random(2));
  readonly process: SimProcess;
  #closed = false;
  readonly #running: Promise<void>;

  constructor() {
    this.scheduler = new Scheduler(Date.now(), new Random(3));
    const { scheduler, random, faults } = this;
    const complain = (what: string) => {
      throw new Error(what);
    };
    this.process = new SimProcess('somebody', 'processor', { scheduler, random, faults, complain });
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const { scheduler } = this;
    while (!this.#closed) {
      await scheduler.run(() => scheduler.nextAt > Date.now());
      // What is asked for from outside is asked for now.
      scheduler.now = Math.max(scheduler.now, Date.now());
      await delay(1);
    }
  }
}
