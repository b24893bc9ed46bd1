import { setTimeout as delay } from 'node:timers/promises';
import { StorageType } from '@nats-io/jetstream';
import type { Fleet } from './fleet.ts';
import { withJetStream } from './jet-stream.ts';
import type { Random } from './random.ts';
import { SERVERS, type ServerName, type Site } from './site.ts';

export interface World {
  readonly site: Site;
  readonly fleet: Fleet;
  readonly random: Random;
  /** How long a process or a network stands still: longer than leases and heartbeats. */
  readonly standstill: number;
  /** How long the memory alarm lasts. */
  readonly alarm: number;
}

/** How long a disk is full. */
const DISK_FULL = 20_000;

/** What a fault says that found nobody to hit. */
export const NOBODY = 'nobody';

/** Resolves when its cause is over: the server answers, the process runs, the network carries. */
export type Fault = (world: World) => Promise<unknown>;

const kill =
  (service: string): Fault =>
  async ({ fleet, random }) =>
    fleet.kill((from) => random.pick(from), service) ?? NOBODY;
const freeze =
  (service: string): Fault =>
  async ({ fleet, random, standstill }) =>
    (await fleet.freeze((from) => random.pick(from), service, standstill)) ?? NOBODY;
const restart =
  (server: ServerName): Fault =>
  ({ site }) =>
    site.servers[server].restart();
const wipe =
  (server: ServerName): Fault =>
  ({ site }) =>
    site.servers[server].reset();
/** No good-bye to anybody: as a power cut of its machine. */
const crash =
  (server: ServerName): Fault =>
  async ({ site }) => {
    await site.servers[server].kill();
    await site.servers[server].restart();
  };
/** Not a byte can be written for a while; then there is room again, and a server that has given up meanwhile is started again, as its operator would do. */
const diskFull =
  (server: ServerName, works: (site: Site) => Promise<unknown>): Fault =>
  async ({ site }) => {
    const disk = site.disks[server];
    if (!disk) return NOBODY;
    await disk.beFull(DISK_FULL);
    await works(site).catch(() => site.servers[server].restart());
    return server;
  };
const network = (act: 'cut' | 'reset' | 'halfOpen'): Record<string, Fault> =>
  Object.fromEntries(
    SERVERS.map((name) => [`${name} ${act === 'halfOpen' ? 'half-open' : act}`, async ({ site }: World) => site.proxies[name][act]()]),
  );
const stall: Record<string, Fault> = Object.fromEntries(
  SERVERS.map((name) => [
    `${name} stall`,
    async ({ site, standstill }: World) => {
      site.proxies[name].stall();
      await delay(standstill);
      site.proxies[name].resume();
    },
  ]),
);
const slow: Record<string, Fault> = Object.fromEntries(
  SERVERS.map((name) => [
    `${name} slow`,
    async ({ site }: World) => {
      site.proxies[name].delay(40);
      await delay(3_000);
      site.proxies[name].delay(0);
    },
  ]),
);

const services = ['clock', 'planner', 'processor', 'audit', 'console'];
const of = (kind: string, names: readonly string[], fault: (name: never) => Fault): Record<string, Fault> =>
  Object.fromEntries(names.map((name) => [`${kind} ${name}`, fault(name as never)]));

/** Every fault by its name. One server has one fault at a time: see `Chaos`. */
export const FAULTS = {
  ...of('kill', services, kill),
  ...of('freeze', services.slice(0, 4), freeze),
  ...of('restart', ['rabbit', 'nats', 'postgres'], restart),
  ...of('crash', ['rabbit', 'nats', 'postgres'], crash),
  ...of('wipe', ['rabbit', 'nats'], wipe),
  'wipe both brokers': ({ site }: World) => Promise.all([site.servers.rabbit.reset(), site.servers.nats.reset()]),
  'memory alarm': async ({ site, alarm }: World) => {
    await site.servers.rabbit.control('set_vm_memory_high_watermark', '0.00001');
    await delay(alarm);
    await site.servers.rabbit.control('set_vm_memory_high_watermark', '0.4');
  },
  'disk alarm': async ({ site, alarm }: World) => {
    await site.servers.rabbit.control('set_disk_free_limit', '1000000GB');
    await delay(alarm);
    await site.servers.rabbit.control('set_disk_free_limit', '50MB');
  },
  'postgres disk full': diskFull('postgres', async (site) => {
    await (await site.database()).query('create table if not exists chaos_room (n integer); insert into chaos_room values (1)');
  }),
  'nats disk full': diskFull('nats', ({ servers }) =>
    withJetStream(servers.nats, async ({ streams }) => {
      await streams.add({ name: 'CHAOS_ROOM', subjects: ['chaos.room'], storage: StorageType.File });
      await streams.delete('CHAOS_ROOM');
    }),
  ),
  'rolling restart': ({ fleet }: World) => fleet.roll(),
  ...network('cut'),
  ...network('reset'),
  ...network('halfOpen'),
  ...stall,
  ...slow,
} as Readonly<Record<string, Fault>>;

/** The server that a fault is about; faults of the same one wait for each other. */
export function subjectOf(fault: string): readonly string[] {
  if (fault === 'wipe both brokers') return ['rabbit', 'nats'];
  if (fault.endsWith(' alarm')) return ['rabbit'];
  return SERVERS.filter((server) => fault.includes(server));
}

export function faultsOf(...patterns: readonly RegExp[]): string[] {
  return Object.keys(FAULTS).filter((name) => patterns.some((pattern) => pattern.test(name)));
}
