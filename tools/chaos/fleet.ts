import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startGuard, waitFor } from '@millrace/testing';

const BIN = fileURLToPath(new URL('../../shared/cli/bin/millrace.mjs', import.meta.url));
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 5_000;
/** A service that lived this long starts again at once when it dies. */
const SETTLED = 10_000;
const MIB = 1_048_576;

/** What a process that nobody killed may say for itself when it could not start: a server was away. */
const SERVER_AWAY = /MR300[1-8]|MR3012/;

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
  startedAt: number;
  pause: number;
  /** What the harness has done to it, if it is about to end. */
  sentenced: 'killed' | 'told to end' | undefined;
  stopped: boolean;
}

/** Real `millrace start <service>` processes, started again whenever they end, as an orchestrator does it. */
export class Fleet {
  readonly unexpected: Unexpected[] = [];
  /** Starts that failed because a server was away: an orchestrator tries again. */
  refusedStarts = 0;
  readonly #slots: Slot[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #mayDie: (service: string) => boolean;
  readonly #guard = startGuard();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ending = false;

  /** `mayDie`: services whose own user code may end them. */
  constructor(services: readonly string[], env: Readonly<Record<string, string>>, logs: string, mayDie: (service: string) => boolean) {
    this.#env = env;
    this.#mayDie = mayDie;
    this.#slots = services.map((service, index) => ({
      service,
      log: join(logs, `${index}-${service}.log`),
      child: undefined,
      logFrom: 0,
      startedAt: 0,
      pause: FIRST_PAUSE,
      sentenced: undefined,
      stopped: false,
    }));
  }

  start(): void {
    for (const slot of this.#slots) this.#spawn(slot);
  }

  services(): readonly string[] {
    return [...new Set(this.#slots.map((slot) => slot.service))];
  }

  alive(): boolean {
    return this.#slots.every((slot) => slot.child !== undefined);
  }

  /** SIGKILL. Undefined when none of the wanted ones is alive. */
  kill(choose: <T>(from: readonly T[]) => T, service?: string): string | undefined {
    return this.#hit(choose, service, (slot) => {
      slot.sentenced = 'killed';
      slot.child?.kill('SIGKILL');
    });
  }

  /** SIGSTOP for a while: longer than leases and heartbeats, a process that comes back as a zombie of itself. */
  async freeze(choose: <T>(from: readonly T[]) => T, duration: number, service?: string): Promise<string | undefined> {
    let frozen: ChildProcess | undefined;
    const name = this.#hit(choose, service, (slot) => {
      slot.stopped = true;
      frozen = slot.child;
      slot.child?.kill('SIGSTOP');
    });
    await new Promise((resolve) => setTimeout(resolve, duration));
    for (const slot of this.#slots) if (slot.child === frozen) slot.stopped = false;
    frozen?.kill('SIGCONT');
    return name;
  }

  /** SIGTERM to one after the other, each awaited: as a rolling update does it. They must end with 0. */
  async roll(): Promise<void> {
    for (const slot of this.#slots) {
      const child = slot.child;
      if (!child || this.#ending) continue;
      slot.sentenced = 'told to end';
      child.kill('SIGTERM');
      await waitFor(() => slot.child !== undefined && slot.child !== child, { timeout: 60_000, what: `${slot.service} to be replaced` });
    }
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

  /** SIGTERM to all; whoever does not end with 0 is unexpected. */
  async end(): Promise<void> {
    this.#ending = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const slot of this.#slots) {
      slot.sentenced = 'told to end';
      slot.child?.kill('SIGCONT');
      slot.child?.kill('SIGTERM');
    }
    await waitFor(() => this.#slots.every((slot) => slot.child === undefined), { timeout: 45_000, what: 'all services to end' }).catch(
      () => {
        for (const slot of this.#slots) slot.child?.kill('SIGKILL');
      },
    );
    this.#guard.release();
  }

  #hit(choose: <T>(from: readonly T[]) => T, service: string | undefined, act: (slot: Slot) => void): string | undefined {
    const slots = this.#slots.filter((slot) => slot.child && !slot.stopped && (service === undefined || slot.service === service));
    if (slots.length === 0) return undefined;
    const slot = choose(slots);
    act(slot);
    return slot.service;
  }

  #spawn(slot: Slot): void {
    if (this.#ending) return;
    const output = openSync(slot.log, 'a');
    slot.logFrom = readFileSync(slot.log).length;
    const child = spawn(process.execPath, [BIN, 'start', slot.service], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...this.#env },
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    Object.assign(slot, { child, startedAt: performance.now(), sentenced: undefined, stopped: false });
    child.once('exit', (code, signal) => this.#ended(slot, child, code, signal));
    this.#watch();
  }

  #ended(slot: Slot, child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): void {
    if (slot.child !== child) return;
    slot.child = undefined;
    this.#judge(slot, code, signal);
    if (this.#ending) return;
    const lived = performance.now() - slot.startedAt;
    slot.pause = slot.sentenced || lived > SETTLED ? FIRST_PAUSE : Math.min(LONGEST_PAUSE, slot.pause * 2);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#spawn(slot);
    }, slot.pause);
    this.#timers.add(timer);
  }

  #judge(slot: Slot, code: number | null, signal: NodeJS.Signals | null): void {
    if (slot.sentenced === 'killed' && signal === 'SIGKILL') return;
    if (slot.sentenced === 'told to end' && code === 0) return;
    const log = readFileSync(slot.log).subarray(slot.logFrom).toString();
    const crashed = /uncaughtException|unhandledRejection/.test(log);
    const started = log.includes(`${slot.service} started`);
    if (code === 1 && !crashed && !started && SERVER_AWAY.test(log)) {
      this.refusedStarts++;
      return;
    }
    if (!crashed && this.#mayDie(slot.service)) return;
    const how = `${slot.sentenced ? `${slot.sentenced}, ` : ''}${signal ?? `exit code ${code}`}`;
    this.unexpected.push({ service: slot.service, how, log: log.slice(-2_000) });
  }

  /** If the harness itself is killed, its processes are not left behind. */
  #watch(): void {
    const pids = this.#slots.flatMap((slot) => slot.child?.pid ?? []);
    this.#guard.atEnd(pids.length > 0 ? `kill -s KILL ${pids.join(' ')} 2>/dev/null` : ':');
  }
}
