/** What the table does not show: latency, slow logic, failures, size, recovery. Each prints one line per figure. */
import { setTimeout as delay } from 'node:timers/promises';
import { connectPostgres, type Database } from '@millrace/postgres';
import { waitFor } from '@millrace/testing';
import { peakMemory } from './cost.ts';
import { type OpenedOnServers, openOnServers } from './millrace.ts';
import { median } from './report.ts';
import type { Servers } from './servers.ts';
import { TABLE } from './workload.ts';

type Scenario = (servers: Servers, db: Database) => Promise<string[]>;

const one = (value: number) => value.toFixed(1);
const rate = (items: number, ms: number) => Math.round((items * 1_000) / ms);

export const scenarios: Readonly<Record<string, Scenario>> = {
  /** From the trigger's message leaving this process to the first call of `process`, and to the close of a run of 100 items. */
  async latency(servers, db) {
    return opened(servers, 1, async (millrace) => {
      const first: number[] = [];
      const closed: number[] = [];
      for (let i = 0; i < 310; i++) {
        const before = Date.now();
        const started = performance.now();
        const { tick } = await millrace.trigger({ items: 100 }, 'probe');
        // The first ten warm up.
        if (i < 10) continue;
        closed.push(performance.now() - started);
        const { rows } = await db.query<{ at: number }>('select min(at) as at from probes where run = $1', [tick]);
        first.push((rows[0]?.at ?? Number.NaN) - before);
        await delay(20);
      }
      return [
        `trigger to first handler, 300 runs: p50 ${one(median(first))} ms, p99 ${one(percentile(first, 99))} ms`,
        `trigger to close of a run of 100 items: p50 ${one(median(closed))} ms, p99 ${one(percentile(closed, 99))} ms`,
      ];
    });
  },

  /** 50 ms of waiting per item, 1,000 at once: 20,000 items/s in theory. */
  async slow(servers) {
    return opened(servers, 1, async (millrace) => {
      await millrace.trigger({ items: 10_000, wait: 50 }, 'slow');
      const items = 100_000;
      const ms = await timed(() => millrace.trigger({ items, wait: 50 }, 'slow'));
      return [`slow logic: ${rate(items, ms)} items/s, ${one((rate(items, ms) * 100) / 20_000)} % of what 1,000 × 50 ms allow`];
    });
  },

  /** One item in 100 is rejected for good, against none, in turns. */
  async failing(servers, db) {
    return opened(servers, 1, async (millrace) => {
      const items = 50_000;
      const healthy: number[] = [];
      const failing: number[] = [];
      for (let i = 0; i < 4; i++) {
        for (const [share, times] of [
          [0, healthy],
          [100, failing],
        ] as const) {
          await db.query(`truncate ${TABLE}`);
          const ms = await timed(() => millrace.trigger({ items, failing: share }));
          if (i > 0) times.push(ms);
        }
      }
      return [
        `1 % failing: ${one((1 - median(healthy) / median(failing)) * 100)} % slower (${rate(items, median(healthy))} → ${rate(items, median(failing))} items/s)`,
      ];
    });
  },

  /** The same job from 138,398 to 5,000,000 items. */
  async flat(servers, db) {
    return opened(servers, 1, async (millrace) => {
      const lines: string[] = [];
      for (const items of [500_000, 138_398, 1_000_000, 5_000_000]) {
        await db.query(`truncate ${TABLE}`);
        const ms = await timed(() => millrace.trigger({ items }));
        const memory = Object.entries(await peakMemory(millrace.processes)).map(([name, peak]) => `${name} ${peak}`);
        lines.push(`${items} items: ${rate(items, ms)} items/s, peak MB: ${memory.join(' · ')}`);
      }
      return lines.slice(1);
    });
  },

  /**
   * SIGKILL for one of two processors in the middle of a run: until what it held is worked on by the other. That lets suspicious items run
   * in processes of their own, so what neither of the two has done was held by the dead one.
   */
  async recovery(servers, db) {
    const waits: (readonly [first: number, last: number, items: number])[] = [];
    for (let i = 0; i < 5; i++) {
      waits.push(
        await opened(servers, 2, async (millrace) => {
          const items = 100_000;
          await db.query(`truncate ${TABLE}`);
          const run = millrace.trigger({ items, wait: 20 }, 'slow');
          const done = async () =>
            Number((await db.query<{ n: string }>('select count(*) as n from probes where at > $1', [started])).rows[0]?.n);
          const started = Date.now();
          await waitFor(async () => (await done()) > items / 4, { timeout: 60_000, interval: 50 });
          await millrace.children['processor']?.[0]?.end('SIGKILL');
          const killed = Date.now();
          const { tick, counts } = await run;
          if (counts.applied !== items) throw new Error(`${counts.applied} of ${items} applied`);
          const { rows } = await db.query<{ first: number; last: number; items: string }>(
            'select min(at) as first, max(at) as last, count(*) as items from probes where run = $1 and pid <> all($2::integer[])',
            [tick, millrace.processes['processor']],
          );
          const { first = Number.NaN, last = Number.NaN, items: held = '0' } = rows[0] ?? {};
          return [first - killed, last - killed, Number(held)] as const;
        }),
      );
    }
    const list = (at: 0 | 1 | 2) => waits.map((wait) => Math.round(wait[at])).join(', ');
    return [`recovery after kill -9: of ${list(2)} items held, the first went on after ${list(0)} ms, the last after ${list(1)} ms`];
  },
};

export async function runScenarios(names: readonly string[], servers: Servers): Promise<void> {
  const db = await connectPostgres({ url: servers.postgres.url });
  try {
    for (const name of names) {
      const scenario = scenarios[name];
      if (!scenario) throw new Error(`no scenario is called "${name}"; known are ${Object.keys(scenarios).join(', ')}`);
      for (const line of await scenario(servers, db)) process.stdout.write(`${name}: ${line}\n`);
    }
  } finally {
    await db.close();
  }
}

async function opened<T>(servers: Servers, processors: number, use: (millrace: OpenedOnServers) => Promise<T>): Promise<T> {
  const millrace = await openOnServers(servers, processors);
  try {
    return await use(millrace);
  } finally {
    await millrace.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** By nearest rank: the smallest value that so many per cent do not exceed. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN;
}
