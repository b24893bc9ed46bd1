import type { Instant, Milliseconds } from '@millrace/core';
import { type Declared, option, retentionOptions } from '@millrace/runtime';
import { CHUNK_ITEMS, LARGEST_ITEM } from './domain/chunk-builder.ts';

/** What can be set about a planner. */
export interface PlannerConfig {
  /** Chunks of one run that may be in the broker at once. Default 1000. */
  readonly window: number;
  /** Items per chunk, at most. Default 500. */
  readonly chunkItems: number;
  /** Bytes of JSON that one item may have; beyond 256 KiB its processor fetches it from the plan. Default 16 MiB. */
  readonly largestItem: number;
  /** Runs that one planner plans at the same time. Default 4. */
  readonly planning: number;
  /** Time between scans for due ticks. Default 30 s. */
  readonly scanEvery: Milliseconds;
  /** Time between looks for lost work. Default 5 s. */
  readonly reconcileEvery: Milliseconds;
  /** How long a planner holds a run without a sign of life; it gives one three times as often. Default 15 s. */
  readonly lease: Milliseconds;
  /** Plans of closed runs older than this are deleted; 0 keeps them. Default 90 d. */
  readonly retention: Milliseconds;
  /** How long inboxes are kept; 0: for ever. A redrive of a run that may outlive them is refused. Default 30 d. */
  readonly inboxRetention: Milliseconds;
  /** A new job's schedule starts with the latest tick at this instant (`millrace dev`), `next`: with the one to come. Default `next`. */
  readonly firstTick: Instant | 'next';
  /** This is the only planner on its database (embedded mode): it takes over interrupted planning at once. Default false. */
  readonly alone: boolean;
}

export const plannerDefaults: PlannerConfig = {
  window: 1_000,
  chunkItems: CHUNK_ITEMS,
  largestItem: LARGEST_ITEM,
  planning: 4,
  scanEvery: 30_000,
  reconcileEvery: 5_000,
  lease: 15_000,
  retention: 90 * 86_400_000,
  inboxRetention: 30 * 86_400_000,
  firstTick: 'next',
  alone: false,
};

export const plannerOptions = {
  window: option({
    env: 'MILLRACE_PLANNER_WINDOW',
    kind: 'integer',
    default: plannerDefaults.window,
    min: 1,
    max: 100_000,
    description: 'Chunks of one run that may be in the broker at once.',
  }),
  planning: option({
    env: 'MILLRACE_PLANNER_PLANNING',
    kind: 'integer',
    default: plannerDefaults.planning,
    min: 1,
    max: 100,
    description: 'Runs that one planner plans at the same time.',
  }),
  scanEvery: option({
    env: 'MILLRACE_PLANNER_SCAN',
    kind: 'duration',
    default: plannerDefaults.scanEvery,
    description: 'Time between scans for due ticks that no clock has told of: how late a run may be when the event broker is lost.',
  }),
  largestItem: option({
    env: 'MILLRACE_PLANNER_LARGEST_ITEM',
    kind: 'integer',
    default: plannerDefaults.largestItem,
    min: 1_024,
    max: 64 * 1024 * 1024,
    description:
      'Bytes of JSON that one item may have (MR1007). An item above 256 KiB does not travel: its processor fetches it from the plan.',
  }),
  reconcileEvery: plannerDefaults.reconcileEvery,
  lease: plannerDefaults.lease,
  ...retentionOptions,
  chunkItems: plannerDefaults.chunkItems,
  firstTick: plannerDefaults.firstTick,
  alone: plannerDefaults.alone,
} satisfies Declared<PlannerConfig>;
