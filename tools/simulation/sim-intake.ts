import type { Handler, SubscribeOptions } from '@millrace/messaging';
import { type Arrival, Intake } from '../../shared/messaging/src/intake.ts';
import { laterOf, type SimProcess } from './process.ts';

/** Deliveries on their way to one handler at once, where it asks for no number. */
const PREFETCH = 64;

/** What a process holds of a subscription: the intake of the real adapters, with the timers of the process. */
export class SimIntake {
  readonly prefetch: number;
  readonly #intake: Intake;

  constructor(process: SimProcess, { prefetch = PREFETCH, batch = 1, linger, enough }: SubscribeOptions, handler: Handler) {
    this.prefetch = prefetch;
    this.#intake = new Intake(handler, { batch, prefetch, log: process.log, linger, enough, later: laterOf(process) });
  }

  /** False once it drains: the broker takes the arrival back. */
  offer(arrival: Arrival): boolean {
    return this.#intake.offer(arrival);
  }

  /** Forgets what has not been started. */
  discard(): void {
    this.#intake.discard();
  }

  /** No new deliveries; what runs is settled, the rest goes back. */
  async drain(): Promise<void> {
    for (const arrival of this.#intake.close()) await arrival.settle({ kind: 'retry', after: 0, reason: 'drained' });
    await this.#intake.idle();
  }
}
