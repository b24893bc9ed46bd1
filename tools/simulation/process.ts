import { type Instant, type Milliseconds, MillraceError, type Time } from '@millrace/core';
import type { Logger, Service } from '@millrace/runtime';
import type { Later } from '../../shared/messaging/src/intake.ts';
import type { Faults, Phase, Role } from './faults.ts';
import type { Random } from './random.ts';
import type { Scheduler, Timer } from './scheduler.ts';

/** What a process lives in. */
export interface Surroundings {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly faults: Faults;
  /** Called with what must never be said by a service. */
  complain(what: string): void;
}

interface Call<T> {
  readonly method: string;
  readonly effect: () => T | Promise<T>;
  readonly failure: (phase: Phase) => unknown;
  readonly detail: string | undefined;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** Longer than a planning lease, a heartbeat and an ack wait: whoever comes back from this has lost everything. */
const LONG_PAUSE: readonly [Milliseconds, Milliseconds] = [33_000, 50_000];
const SHORT_PAUSE: readonly [Milliseconds, Milliseconds] = [50, 2_500];

const NEVER = new Promise<never>(() => {});

/**
 * One process of the system. Everything that its code may wait for comes from here, so that a crash is final: no
 * promise of a dead process ever settles, and whatever its code still does goes nowhere. A paused one is told nothing
 * until it goes on, while what it has sent takes place.
 *
 *   call ──before──▶ effect ──after──▶ reply          at both places: crash, pause or failure
 */
export class SimProcess {
  readonly name: string;
  readonly role: Role;
  readonly surroundings: Surroundings;
  readonly time: Time;
  readonly log: Logger;
  alive = true;
  service: Service | undefined;
  /** Ahead of the true time; only clocks decide by it. */
  skew: Milliseconds = 0;
  /** Told when the process has died (true), or when it is paused for long: its connections break. */
  readonly whenGone: ((dead: boolean) => void)[] = [];
  wasPaused = false;
  #resumeAt: Instant = 0;
  #backlog: (() => void)[] = [];
  /** Lets go of the signals of those who sleep: a combined signal with a listener is never collected. */
  readonly #sleepers = new Set<() => void>();

  constructor(name: string, role: Role, surroundings: Surroundings) {
    this.name = name;
    this.role = role;
    this.surroundings = surroundings;
    this.time = {
      now: () => Math.floor(surroundings.scheduler.now + this.skew),
      sleep: (duration, signal) => this.#sleep(duration, signal),
    };
    const say = (level: string) => (fields: object | string, message?: string) => {
      if (!this.alive) return;
      const text = typeof fields === 'string' ? fields : (message ?? '');
      surroundings.scheduler.log(
        `${name} ${level}: ${text}${typeof fields === 'object' && 'err' in fields ? ` (${String(fields.err)})` : ''}`,
      );
      if (level === 'error') surroundings.complain(`${name} logged an error: ${text}`);
    };
    this.log = { debug: () => {}, info: () => {}, warn: say('warn'), error: say('error'), child: () => this.log };
  }

  get paused(): boolean {
    return this.#resumeAt > this.surroundings.scheduler.now;
  }

  /** Runs `run` in the process: now, when it goes on, or never. */
  deliver(run: () => void): void {
    if (!this.alive) return;
    if (this.paused) this.#backlog.push(run);
    else run();
  }

  /** Runs `run` in the process after `delay`. */
  later(delay: Milliseconds, run: () => void): Timer {
    return this.surroundings.scheduler.after(delay, run, this);
  }

  /** A request over the network: it takes place as a whole or not at all, and the answer may get lost. */
  call<T>(method: string, effect: () => T | Promise<T>, failure: (phase: Phase) => unknown = lostConnection, detail?: string): Promise<T> {
    if (!this.alive) return NEVER;
    return new Promise<T>((resolve, reject) => {
      this.#onTheWay(() => this.#arrive({ method, effect, failure, detail, resolve, reject }));
    });
  }

  /** Requests and answers take their time. */
  #onTheWay(arrive: () => void): void {
    const { scheduler, random } = this.surroundings;
    scheduler.after(random.next() * 2, arrive, this);
  }

  #arrive<T>(call: Call<T>): void {
    const { scheduler, faults } = this.surroundings;
    const { method, failure, reject } = call;
    switch (faults.take(this.role, method, 'before')) {
      case undefined:
        return this.#takePlace(call);
      case 'crash':
        return this.crash(`before ${method}`);
      case 'pause':
        this.pause(`before ${method}`);
        return this.deliver(() => this.#takePlace(call));
      case 'fail':
        scheduler.log(this.name, method, 'fails');
        return this.#onTheWay(() => reject(failure('before')));
    }
  }

  #takePlace<T>(call: Call<T>): void {
    const { method, effect, detail, reject } = call;
    this.surroundings.scheduler.log(this.name, method, detail);
    const refuse = (error: unknown) => this.#onTheWay(() => reject(error));
    try {
      const value = effect();
      if (value instanceof Promise) value.then((answer) => this.#answer(call, answer), refuse);
      else this.#answer(call, value);
    } catch (error) {
      refuse(error);
    }
  }

  #answer<T>({ method, failure, resolve, reject }: Call<T>, value: T): void {
    const { scheduler, faults } = this.surroundings;
    switch (faults.take(this.role, method, 'after')) {
      case 'crash':
        return this.crash(`after ${method}`);
      case 'pause':
        this.pause(`after ${method}`);
        break;
      case 'fail':
        scheduler.log(this.name, method, 'the answer is lost');
        return this.#onTheWay(() => reject(failure('after')));
    }
    this.#onTheWay(() => resolve(value));
  }

  crash(where: string): void {
    if (!this.alive) return;
    this.surroundings.scheduler.log(`${this.name} CRASHES ${where}`);
    this.forget();
    for (const tell of this.whenGone) tell(true);
  }

  /** Nothing of it ever goes on. */
  forget(): void {
    this.alive = false;
    this.#backlog = [];
    for (const letGo of this.#sleepers) letGo();
    this.#sleepers.clear();
  }

  pause(where: string, long = this.surroundings.faults.longPauses && this.surroundings.random.chance(0.5)): void {
    const { scheduler, random } = this.surroundings;
    const [from, to] = long ? LONG_PAUSE : SHORT_PAUSE;
    const duration = random.int(from, to);
    scheduler.log(`${this.name} PAUSES ${where} for ${duration}`);
    this.wasPaused = true;
    this.#resumeAt = Math.max(this.#resumeAt, scheduler.now + duration);
    const resumeAt = this.#resumeAt;
    scheduler.after(duration, () => {
      if (resumeAt === this.#resumeAt) this.resume();
    });
    if (long) for (const tell of this.whenGone) tell(false);
  }

  resume(): void {
    this.#resumeAt = 0;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const run of backlog) this.deliver(run);
  }

  #sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void> {
    if (!this.alive) return NEVER;
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        timer.run = undefined;
        letGo();
        this.#sleepers.delete(letGo);
        resolve();
      };
      const letGo = () => signal?.removeEventListener('abort', wake);
      const timer = this.later(duration, wake);
      if (!signal) return;
      signal.addEventListener('abort', wake);
      this.#sleepers.add(letGo);
    });
  }
}

export function lostConnection(): unknown {
  return new MillraceError('MR3001', 'simulated: the connection was lost');
}

/** The timers of the process, for the part of the adapters that is not simulated. */
export function laterOf(process: SimProcess): Later {
  return (delay, run) => {
    const timer = process.later(delay, run);
    return () => {
      timer.run = undefined;
    };
  };
}
