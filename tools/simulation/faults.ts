import type { Random } from './random.ts';

export type Role = 'clock' | 'planner' | 'processor' | 'audit';
export type Phase = 'before' | 'after';
/** `fail`: before the effect a refusal, a lost connection or a deadlock; after it the answer is lost. */
export type FaultKind = 'crash' | 'pause' | 'fail';

/** Every await of an adapter that the cores reach. */
export const POINTS: Readonly<Record<Role, readonly string[]>> = {
  clock: ['bucket.entries', 'publish tick'],
  planner: [
    'plan.now',
    'plan.registerJob',
    'plan.admitTicks',
    'plan.admitRun',
    'plan.admitClaimed',
    'plan.claimRun',
    'plan.appendChunks',
    'plan.seal',
    'plan.renewLease',
    'plan.discardPlan',
    'plan.postponePlanning',
    'plan.storedKeys',
    'plan.claimChunks',
    'plan.confirmChunks',
    'plan.releaseUnconfirmed',
    'plan.releaseChunks',
    'plan.waiting',
    'plan.settleChunks',
    'plan.closeRun',
    'plan.redrive',
    'plan.resetEmitted',
    'plan.resetStalled',
    'plan.tellAgain',
    'plan.owedFacts',
    'plan.clearOwed',
    'source.query',
    'work.look',
    'work.ensure',
    'work.inspect',
    'publish chunk',
    'publish run.opened',
    'publish run.planned',
    'bucket.put',
    'subscribe',
    'ack',
  ],
  processor: [
    'inbox.open',
    'inbox.find',
    'inbox.insertWithRows',
    'inbox.begin',
    'inbox.insert',
    'inbox.lock',
    'inbox.effects',
    'inbox.savepoint',
    'inbox.update',
    'inbox.commit',
    'inbox.rollback',
    'item.await',
    'publish chunk.settled',
    'subscribe',
    'ack',
  ],
  audit: ['ledger.fold', 'ledger.outbox', 'ledger.clearOutbox', 'publish run.closed', 'subscribe', 'ack'],
};

export const KINDS: readonly FaultKind[] = ['crash', 'pause', 'fail'];
export const PHASES: readonly Phase[] = ['before', 'after'];

export interface Pair {
  readonly role: Role;
  readonly method: string;
  readonly phase: Phase;
  readonly kind: FaultKind;
}

/** Pairs of fault and place that cannot be: an acknowledgement and a rollback have no answer that could get lost or fail. */
function isPossible({ method, kind, phase }: Pair): boolean {
  if (kind !== 'fail') return true;
  return method !== 'ack' && method !== 'inbox.rollback' && method !== 'item.await' && !(method === 'subscribe' && phase === 'after');
}

export const PAIRS: readonly Pair[] = (Object.keys(POINTS) as Role[]).flatMap((role) =>
  POINTS[role].flatMap((method) =>
    KINDS.flatMap((kind) => PHASES.map((phase): Pair => ({ role, method, phase, kind })).filter((pair) => isPossible(pair))),
  ),
);

export function pairName({ role, method, phase, kind }: Pair): string {
  return `${role} ${method} ${kind} ${phase}`;
}

/** What is to go wrong at a point, and how often the point was passed. */
interface Aim {
  seen: number;
  readonly faults: { readonly kind: FaultKind; readonly nth: number }[];
}

/** Decides what goes wrong where, and counts what did. */
export class Faults {
  /** Off once the world is to come to rest. */
  enabled = false;
  longPauses = false;
  /** How often each pair fired, by its name. */
  readonly fired = new Map<string, number>();
  /** Things that happened to brokers and databases, by name. */
  readonly events = new Map<string, number>();
  readonly #random: Random;
  readonly #aims = new Map<Role, Map<string, Partial<Record<Phase, Aim>>>>();
  /** Chance per passed point of a fault that nobody aimed. */
  #stray = 0;
  #strayRoles: readonly Role[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  /** The fault happens when the point is passed for the `nth` time. */
  aim({ role, method, phase, kind }: Pair, nth: number): void {
    const methods = this.#aims.get(role) ?? new Map<string, Partial<Record<Phase, Aim>>>();
    this.#aims.set(role, methods);
    const phases = methods.get(method) ?? {};
    methods.set(method, phases);
    phases[phase] ??= { seen: 0, faults: [] };
    phases[phase].faults.push({ kind, nth });
  }

  scatter(probability: number, roles: readonly Role[]): void {
    this.#stray = probability;
    this.#strayRoles = roles;
  }

  take(role: Role, method: string, phase: Phase): FaultKind | undefined {
    if (!this.enabled) return undefined;
    const aim = this.#aims.get(role)?.get(method)?.[phase];
    let kind: FaultKind | undefined;
    if (aim) {
      const seen = ++aim.seen;
      kind = aim.faults.find(({ nth }) => nth === seen)?.kind;
    }
    if (!kind && this.#stray > 0 && this.#random.next() < this.#stray && this.#strayRoles.includes(role)) {
      const stray = { role, method, phase, kind: this.#random.pick(KINDS) };
      if (isPossible(stray)) kind = stray.kind;
    }
    if (kind) {
      const name = pairName({ role, method, phase, kind });
      this.fired.set(name, (this.fired.get(name) ?? 0) + 1);
    }
    return kind;
  }

  happened(event: string): void {
    this.events.set(event, (this.events.get(event) ?? 0) + 1);
  }
}
