import { type Envelope, KIND_HEADER, type Milliseconds } from '@millrace/core';
import { PAIRS, type Pair } from './faults.ts';
import type { SimProcess } from './process.ts';
import { type EventTrouble, PROFILES, REPLICAS, type WorkTrouble } from './profiles.ts';
import { Random } from './random.ts';
import { NOON } from './workload.ts';
import type { World } from './world.ts';

/** Trouble that nobody aimed happens in this time after the start. */
export const TROUBLE: Milliseconds = 12_000;
/** Faults aimed at a place, per seed. */
const AIMS = 9;
const RARE = new Set([
  'plan.redrive',
  'plan.discardPlan',
  'plan.releaseChunks',
  'plan.renewLease',
  'plan.storedKeys',
  'plan.postponePlanning',
  'inbox.rollback',
  'publish tick',
]);

/** Work that was done comes again: young enough to be taken up, and too old for that. */
const LATE = [NOON + 26_000, NOON + 42_000] as const;
const PURGE_FROM = NOON + 58_000;
/** Whoever stood still with old work has gone on by then. */
export const LATE_UNTIL = NOON + 85_000;

/** What befalls a world, by the profile of its seed. Aimed faults stay armed to the end; the rest comes in the first seconds. */
export class Trouble {
  readonly #world: World;
  readonly #processes: readonly SimProcess[];
  readonly #random: Random;
  /** Nothing more will go wrong, what was aimed aside. */
  over = false;

  /** `processes`: those that are alive, as a list that follows them. */
  constructor(world: World, processes: readonly SimProcess[]) {
    this.#world = world;
    this.#processes = processes;
    this.#random = new Random(world.seed, 6);
  }

  plant(): void {
    const { profile, faults, scheduler } = this.#world;
    const { longPauses = false, disorder = 0, work = [], events = [], deploys, retention } = profile;
    const random = this.#random;
    faults.enabled = true;
    faults.longPauses = longPauses;
    this.#aim();
    if (random.chance(0.7)) {
      this.#world.work.disorder = disorder;
      this.#world.events.disorder = disorder;
    }
    const soon = () => random.int(500, TROUBLE - 2_000);
    for (let i = random.int(1, 3); i > 0 && work.length > 0; i--) this.#troubleWork(random.pick(work), soon());
    for (let i = random.int(1, 2); i > 0 && events.length > 0; i--) this.#troubleEvents(random.pick(events), soon());
    if (events.includes('wipe') && random.chance(0.6)) this.#wipeAtLastTick();
    if (deploys) for (let i = random.int(1, 4); i > 0; i--) scheduler.after(soon(), () => this.#redeploy());
    if (profile.skew)
      scheduler.after(soon(), () => {
        for (const one of this.#processes) if (one.role === 'clock') one.skew += random.int(-300_000, 300_000);
        faults.happened('clocks jump');
      });
    if (retention !== undefined) this.#bringBackOldWork(retention);
    scheduler.after(TROUBLE, () => this.#calmDown());
  }

  #aim(): void {
    const { profile, seed, faults, workload } = this.#world;
    const { roles } = profile;
    const random = this.#random;
    const pairs = PAIRS.filter(({ role }) => roles.includes(role));
    if (pairs.length === 0) return;
    // In turns, so that every pair has its seeds; what a run reaches rarely is aimed at its first time.
    const turn = Math.floor(seed / PROFILES.length) * AIMS;
    for (let i = 0; i < AIMS; i++) {
      const pair = pairs[((turn + i) * 7) % pairs.length] as Pair;
      faults.aim(pair, RARE.has(pair.method) || random.chance(0.5) ? 1 : random.int(2, 5));
      workload.provoke(pair.method);
      if (pair.method === 'plan.releaseChunks') faults.aim({ role: 'planner', method: 'publish chunk', phase: 'before', kind: 'fail' }, 1);
    }
    if (random.chance(0.5)) faults.scatter(random.pick([0.001, 0.004, 0.012]), roles);
  }

  #calmDown(): void {
    const { scheduler, faults, work, events } = this.#world;
    scheduler.log('trouble is over');
    faults.scatter(0, []);
    work.disorder = 0;
    events.disorder = 0;
    work.unblock();
    events.comeBack();
    this.over = true;
  }

  #troubleWork(trouble: WorkTrouble, at: Milliseconds): void {
    const { scheduler, work, workload, faults } = this.#world;
    const random = this.#random;
    scheduler.after(at, () => {
      switch (trouble) {
        case 'wipe':
        case 'restart':
          // There is to be something to lose.
          if (work.unsettled === 0 && scheduler.now < NOON + TROUBLE) return this.#troubleWork(trouble, 20);
          work[trouble]();
          break;
        case 'cut':
          work.cutSomebody();
          break;
        case 'cancel':
          work.cancelSomebody();
          break;
        case 'block':
          work.block();
          scheduler.after(random.int(500, 6_000), () => work.unblock());
          break;
        case 'vanish': {
          // Nothing is lost with an empty queue; somebody else makes it again, so that no planner notices.
          const queue = `millrace.chunks.${random.pick(workload.jobs).name}`;
          if (!work.isEmpty(queue)) return this.#troubleWork(trouble, 40);
          work.deleteQueue(queue);
          scheduler.after(random.int(20, 1_500), () => work.declareQueue(queue));
          break;
        }
        default:
          trouble satisfies never;
      }
      faults.happened(`work: ${trouble}`);
    });
  }

  #troubleEvents(trouble: EventTrouble, at: Milliseconds): void {
    const { scheduler, events, faults } = this.#world;
    scheduler.after(at, () => {
      faults.happened(`events: ${trouble}`);
      if (trouble === 'wipe') return events.wipe();
      events.goAway();
      scheduler.after(this.#random.int(500, 8_000), () => events.comeBack());
    });
  }

  /** When every clock has told of it, and perhaps nobody has heard: it will not be told again. */
  #wipeAtLastTick(): void {
    const { scheduler, events, faults, workload } = this.#world;
    const lastTick = workload.ticks.at(-1) ?? NOON;
    let untold = REPLICAS.clock;
    let struck = false;
    const strike = () => {
      if (struck) return;
      struck = true;
      faults.happened('events: wipe');
      events.wipe();
    };
    const append = events.append.bind(events);
    events.append = (message, once) => {
      append(message, once);
      const isTick = message.headers[KIND_HEADER] === 'tick' && scheduler.now >= lastTick;
      if (isTick && --untold === 0) scheduler.after(this.#random.next() / 2, strike);
    };
    // A clock may be down.
    scheduler.after(lastTick + 50 - scheduler.now, strike);
  }

  /** SIGTERM: the service drains, the process ends, another takes its place. */
  #redeploy(): void {
    const { scheduler, random, faults, complaints } = this.#world;
    const running = this.#processes.filter((one) => one.service);
    if (running.length === 0) return;
    const one = random.pick(running);
    scheduler.log(`${one.name} is told to stop`);
    faults.happened('deploy');
    const end = () => one.crash('having been stopped');
    one.service?.stop().then(end, end);
    scheduler.after(30_000, () => {
      if (!one.alive) return;
      if (!one.wasPaused) complaints.push(`I5 ${one.name} did not stop within 30 s`);
      one.crash('for not having stopped');
    });
  }

  /**
   * Somebody held on to work that was done, and a processor that takes it up stands still, between its look at the age of the run and
   * its transaction, until the inbox has forgotten what was done.
   */
  #bringBackOldWork(retention: Milliseconds): void {
    const { scheduler, faults, work, inbox } = this.#world;
    const random = this.#random;
    for (const at of LATE)
      scheduler.after(at - scheduler.now, () => {
        if (at === LATE[0])
          for (const method of ['inbox.find', 'inbox.insertWithRows', 'inbox.begin'])
            faults.aim({ role: 'processor', method, phase: 'before', kind: 'pause' }, 1);
        for (let i = random.int(1, 3); i > 0 && work.published.length > 0; i--) {
          const message: Envelope = random.pick(work.published);
          scheduler.log(`${message.id} comes back`);
          work.bringBack(message, random.chance(0.5));
          faults.happened('work: late duplicate');
        }
      });
    const purge = () => {
      const rows = inbox.purge(retention);
      if (rows > 0) scheduler.log(`${rows} rows of the inbox are purged`);
      if (rows > 0) faults.happened('inbox: purged');
      if (scheduler.now < LATE_UNTIL) scheduler.after(1_000, purge);
    };
    scheduler.after(PURGE_FROM - scheduler.now, purge);
  }
}
