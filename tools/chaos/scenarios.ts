import { faultsOf } from './faults.ts';

/** What is done to the site while the work goes on. */
export interface Scenario {
  readonly about: string;
  readonly items: number;
  /** Milliseconds that each item takes, so that there is something to disturb. */
  readonly pace: number;
  readonly killerEvery: number;
  /** Fired side by side, each set in its own rhythm (milliseconds), for as long as a run is open. */
  readonly rhythms: readonly { readonly faults: readonly string[]; readonly every: number }[];
  /** Fired one by one, each so many times; the next one waits until work flows again. This measures recovery. */
  readonly single: readonly { readonly fault: string; readonly times: number }[];
  /** The work must be done this many milliseconds after the last single fault. */
  readonly doneWithin?: number;
  /** NATS and PostgreSQL write to small disks of their own. Needs the right to mount. */
  readonly smallDisks?: boolean;
  /** Processors may be ended by what they work on. */
  readonly itemsKill?: boolean;
}

const calm: Scenario = { about: '', items: 20_000, pace: 0, killerEvery: 0, rhythms: [], single: [] };
const restarts = faultsOf(/^(restart|crash) /);
const each = (faults: readonly string[], times = 1) => faults.map((fault) => ({ fault, times }));
/** A pace that keeps two processors busy for minutes. */
const SLOWLY = 40;

export const SCENARIOS = {
  kill: { ...calm, about: 'a random service is killed all the time', rhythms: [{ faults: faultsOf(/^kill /), every: 3_000 }] },
  stop: {
    ...calm,
    about: 'services stand still for longer than leases last',
    items: 60_000,
    pace: SLOWLY,
    single: each(faultsOf(/^freeze /)),
  },
  'broker-restart': {
    ...calm,
    about: 'brokers restart and crash',
    items: 60_000,
    pace: SLOWLY,
    single: each(faultsOf(/^(restart|crash) (rabbit|nats)/)),
  },
  wipe: {
    ...calm,
    about: 'both brokers lose everything in mid-run',
    items: 60_000,
    pace: SLOWLY,
    single: each(['wipe both brokers']),
    doneWithin: 120_000,
  },
  postgres: {
    ...calm,
    about: 'PostgreSQL restarts and crashes',
    items: 60_000,
    pace: SLOWLY,
    single: each(faultsOf(/^(restart|crash) postgres/)),
  },
  alarm: { ...calm, about: 'RabbitMQ blocks publishers: memory alarm', items: 200_000, pace: 10, single: each(['memory alarm']) },
  'disk-full': {
    ...calm,
    about: 'the disks of NATS and PostgreSQL are full for a while, and RabbitMQ takes no messages for want of room',
    items: 60_000,
    pace: SLOWLY,
    smallDisks: true,
    single: each(['nats disk full', 'postgres disk full', 'disk alarm']),
  },
  network: {
    ...calm,
    about: 'connections are cut, reset, stalled, slow and half-open',
    items: 60_000,
    pace: SLOWLY,
    single: each(faultsOf(/ (cut|reset|half-open|stall|slow)$/)),
  },
  poison: { ...calm, about: 'ten items end, fill or block their process', items: 100_000, killerEvery: 10_000, itemsKill: true },
  rolling: {
    ...calm,
    about: 'every service is replaced, again and again',
    items: 60_000,
    pace: 10,
    rhythms: [{ faults: ['rolling restart'], every: 500 }],
  },
  recovery: {
    ...calm,
    about: 'every fault on its own: how long until work flows again?',
    items: 60_000,
    pace: SLOWLY,
    single: each(
      faultsOf(/./).filter((fault) => !fault.endsWith('disk full')),
      3,
    ),
  },
  mixed: {
    ...calm,
    about: 'a service is killed every 3 s, a broker or the database restarts, crashes or is wiped, and the network fails',
    rhythms: [
      { faults: faultsOf(/^kill /), every: 3_000 },
      { faults: [...restarts, ...faultsOf(/^wipe (rabbit|nats)/)], every: 30_000 },
      { faults: faultsOf(/ (cut|reset|half-open|slow)$/), every: 10_000 },
      { faults: faultsOf(/^freeze /), every: 30_000 },
    ],
  },
  million: {
    ...calm,
    about: 'a service is killed every 3 s, a broker or the database restarts every 30 s',
    items: 1_000_000,
    rhythms: [
      { faults: faultsOf(/^kill /), every: 3_000 },
      { faults: restarts, every: 30_000 },
    ],
  },
} satisfies Readonly<Record<string, Scenario>>;

export type ScenarioName = keyof typeof SCENARIOS;
