import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { startGuard, waitFor } from '@millrace/testing';

const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 5_000;
/** A service that lived this long starts again at once when it dies. */
const SETTLED = 10_000;
const MIB = 1_048_576;

/** What a process may say for itself when it could not start: a server was away. */
const SERVER_AWAY = /MR300[1-8]|MR3012/;

export type Choose = <T>(from: readonly T[]) => T;

export interface FleetOptions {
  /** One entry per process. */
  readonly services: readonly string[];
  /** The `millrace` command. */
  readonly program: string;
  readonly env: Readonly<Record<string, string>>;
  readonly logs: string;
  /** Services that user code may end. */
  readonly mayDie: (service: string) => boolean;
}

/** Ended in a way that nobody asked for. */
export interface Unexpected {
  readonly service: string;
  readonly how: string;
  readonly log: string;
}

interface Slot {
  readonly service: string;
  readonly log: string;
  child: ChildProcess | undefined;
  /** Where the log of this incarnation begins. */
  logFrom: number;
  bornAt: number;
  /** Before the next start. */
  pause: number;
  /** It said that it has started. */
  started: boolean;
  /** What the harness is doing to it. */
  fate: 'killed' | 'told to end' | 'frozen' | undefined;
}

/** Real `millrace start <service>` processes, started again whenever they end, as an orchestrator does it. */
export class Fleet {
  readonly unexpected: Unexpected[] = [];
  /** Starts that failed because a server was away: an orchestrator tries again. */
  refusedStarts = 0;
  readonly #options: FleetOptions;
  readonly #slots: readonly Slot[];
  readonly #guard = startGuard();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ending = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#slots = options.services.map((service, index) => ({
      service,
      log: join(options.logs, `${index}-${service}.log`),
      child: undefined,
      logFrom: 0,
      bornAt: 0,
      pause: FIRST_PAUSE,
      started: false,
      fate: undefined,
    }));
  }

  start(): void {
    for (const slot of this.#slots) this.#spawn(slot);
  }

  allStarted(): boolean {
    return this.#slots.every((slot) => this.#hasStarted(slot));
  }

  /** SIGKILL for one that has started. Undefined when there is none. */
  kill(choose: Choose, service: string): string | undefined {
    const slot = this.#chosen(choose, service);
    if (slot) slot.fate = 'killed';
    slot?.child?.kill('SIGKILL');
    return slot?.service;
  }

  /** SIGSTOP for a while: longer than leases and heartbeats, a process that comes back as a zombie of itself. */
  async freeze(choose: Choose, service: string, duration: number): Promise<string | undefined> {
    const slot = this.#chosen(choose, service);
    if (!slot) return undefined;
    const { child } = slot;
    slot.fate = 'frozen';
    child?.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, duration));
    if (slot.child === child && slot.fate === 'frozen') slot.fate = undefined;
    child?.kill('SIGCONT');
    return slot.service;
  }

  /** SIGTERM to one after the other, each awaited, as a rolling update does it. They must end with 0. */
  async roll(): Promise<string> {
    for (const slot of this.#slots) {
      await waitFor(() => this.#ending || this.#hasStarted(slot), { timeout: 60_000, what: `${slot.service} to start` });
      const { child } = slot;
      if (this.#ending || !child) break;
      slot.fate = 'told to end';
      child.kill('SIGTERM');
      await waitFor(() => this.#ending || (slot.child !== child && this.#hasStarted(slot)), {
        timeout: 90_000,
        what: `${slot.service} to be replaced`,
      });
    }
    return 'all';
  }

  /** Resident memory by process, in MiB. */
  memory(): Map<string, number> {
    const memory = new Map<string, number>();
    for (const { service, child } of this.#slots) {
      try {
        const pages = Number(readFileSync(`/proc/${child?.pid}/statm`, 'utf8').split(' ')[1]);
        memory.set(`${service} ${child?.pid}`, (pages * 4_096) / MIB);
      } catch {
        // Just gone.
      }
    }
    return memory;
  }

  /** SIGTERM to all. Twice is fine. */
  async end(): Promise<void> {
    this.#ending = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const slot of this.#slots) {
      slot.fate = 'told to end';
      slot.child?.kill('SIGCONT');
      slot.child?.kill('SIGTERM');
    }
    const ended = () => this.#slots.every((slot) => slot.child === undefined);
    await waitFor(ended, { timeout: 45_000, what: 'all services to end' }).catch(() => {
      for (const slot of this.#slots) slot.child?.kill('SIGKILL');
    });
    this.#guard.release();
  }

  #chosen(choose: Choose, service: string): Slot | undefined {
    const slots = this.#slots.filter((slot) => slot.service === service && slot.fate === undefined && this.#hasStarted(slot));
    return slots.length === 0 ? undefined : choose(slots);
  }

  #hasStarted(slot: Slot): boolean {
    slot.started ||= slot.child !== undefined && this.#log(slot).includes(`${slot.service} started`);
    return slot.started;
  }

  #spawn(slot: Slot): void {
    if (this.#ending) return;
    const { program, env } = this.#options;
    slot.logFrom = existsSync(slot.log) ? statSync(slot.log).size : 0;
    const output = openSync(slot.log, 'a');
    const child = spawn(process.execPath, [program, 'start', slot.service], {
      cwd: dirname(program),
      env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...env },
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    Object.assign(slot, { child, bornAt: performance.now(), started: false, fate: undefined });
    child.once('exit', (code, signal) => this.#ended(slot, code, signal));
    this.#watch();
  }

  #ended(slot: Slot, code: number | null, signal: NodeJS.Signals | null): void {
    this.#judge(slot, code, signal);
    const lived = performance.now() - slot.bornAt;
    slot.pause = slot.fate || lived > SETTLED ? FIRST_PAUSE : Math.min(LONGEST_PAUSE, slot.pause * 2);
    Object.assign(slot, { child: undefined, started: false });
    if (this.#ending) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#spawn(slot);
    }, slot.pause);
    this.#timers.add(timer);
  }

  #judge(slot: Slot, code: number | null, signal: NodeJS.Signals | null): void {
    if (slot.fate === 'killed' && signal === 'SIGKILL') return;
    const log = this.#log(slot);
    // Before its code is loaded a process cannot answer a signal, and has nothing to put away either.
    if (slot.fate === 'told to end' && (code === 0 || (signal === 'SIGTERM' && !this.#hasStarted(slot)))) return;
    const crashed = /uncaughtException|unhandledRejection/.test(log);
    if (code === 1 && !crashed && !this.#hasStarted(slot) && SERVER_AWAY.test(log)) {
      this.refusedStarts++;
      return;
    }
    if (!crashed && this.#options.mayDie(slot.service)) return;
    const how = `${slot.fate ? `${slot.fate}, ` : ''}${signal ?? `exit code ${code}`}`;
    this.unexpected.push({ service: slot.service, how, log: log.slice(-2_000) });
  }

  /** Of this incarnation. */
  #log(slot: Slot): string {
    return readFileSync(slot.log).subarray(slot.logFrom).toString();
  }

  /** If the harness itself is killed, its processes are not left behind. */
  #watch(): void {
    const pids = this.#slots.flatMap((slot) => slot.child?.pid ?? []);
    this.#guard.atEnd(pids.length > 0 ? `kill -s KILL ${pids.join(' ')} 2>/dev/null` : ':');
  }
}
