import type { Milliseconds } from '@millrace/core';
import type { Role } from './faults.ts';

/** Processes of each service. */
export const REPLICAS: Readonly<Record<Role, number>> = { clock: 2, planner: 2, processor: 2, audit: 2 };

/**
 * What may go wrong in a seed. Most seeds hold one kind of trouble only: then it can be said what must *not* have been
 * needed. The reconciler mends nearly everything in the end, so without that a bug that it covers up would stay unseen.
 */
export interface Profile {
  readonly name: string;
  /** Whose processes crash, pause and get errors. */
  readonly roles: readonly Role[];
  /** Pauses may be longer than leases and heartbeats. */
  readonly longPauses?: boolean;
  readonly work?: readonly WorkTrouble[];
  readonly events?: readonly EventTrouble[];
  /** Chance per message of being doubled, delayed or delivered out of order. */
  readonly disorder?: number;
  /** Clocks go wrong by minutes. */
  readonly skew?: boolean;
  /** Processes are stopped gracefully and started again. */
  readonly deploys?: boolean;
  /** Inboxes are kept for so long only, and work that was done before comes again. */
  readonly retention?: Milliseconds;
  /** Nobody has lost a chunk, so no chunk may have been sent again because its run stood still. */
  readonly noStalled?: boolean;
  /** Nobody has lost a fact, so none may have been told again. */
  readonly noTellAgain?: boolean;
}

export type WorkTrouble = 'wipe' | 'restart' | 'cut' | 'cancel' | 'block' | 'vanish';
export type EventTrouble = 'wipe' | 'away';

const ALL: readonly Role[] = ['clock', 'planner', 'processor', 'audit'];

export const PROFILES: readonly Profile[] = [
  { name: 'calm', roles: [], noStalled: true, noTellAgain: true },
  { name: 'processors', roles: ['processor'], noStalled: true, noTellAgain: true },
  { name: 'processors and disorder', roles: ['processor'], disorder: 0.1, noStalled: true, noTellAgain: true },
  { name: 'planners', roles: ['planner'], noTellAgain: true },
  { name: 'planners pausing', roles: ['planner'], longPauses: true },
  { name: 'audits', roles: ['audit'], disorder: 0.05, noStalled: true, noTellAgain: true },
  { name: 'clocks', roles: ['clock'], skew: true, noStalled: true, noTellAgain: true },
  { name: 'planners and processors', roles: ['planner', 'processor'], disorder: 0.05, noTellAgain: true },
  { name: 'work broker', roles: [], work: ['wipe', 'restart', 'cut', 'cancel', 'block'], disorder: 0.05, noStalled: true },
  { name: 'event broker', roles: [], events: ['wipe', 'away'], disorder: 0.05 },
  { name: 'vanishing queue', roles: [], work: ['vanish', 'block'], noStalled: true, noTellAgain: true },
  { name: 'deploys', roles: [], deploys: true, noStalled: true, noTellAgain: true },
  { name: 'planners and a lost event broker', roles: ['planner', 'clock'], events: ['wipe', 'away'] },
  { name: 'late duplicates', roles: [], longPauses: true, disorder: 0.05, retention: 60_000, noStalled: true, noTellAgain: true },
  {
    name: 'everything',
    roles: ALL,
    longPauses: true,
    work: ['wipe', 'restart', 'cut', 'cancel', 'block', 'vanish'],
    events: ['wipe', 'away'],
    disorder: 0.1,
    skew: true,
    deploys: true,
  },
];

export function profileOf(seed: number): Profile {
  return PROFILES[seed % PROFILES.length] as Profile;
}
