import type { Milliseconds } from '@millrace/core';
import { type Declared, option, retentionOptions } from '@millrace/runtime';

/** How a processor runs. */
export interface ProcessorConfig {
  /** Chunks of one job that this process holds at once: while some commit, the next ones run. Four until one was quick. Default 20. */
  readonly prefetch: number;
  /** Processes that run suspicious items at once. Default 2. */
  readonly children: number;
  /** MiB of JavaScript heap of each of them; 0: as much as the processor itself may have. Default 0. */
  readonly childHeap: number;
  /**
   * How long a chunk may go on starting items; the rest is handed back. With the longest timeout of an item (10 min) it
   * stays well below RabbitMQ's consumer_timeout (30 min). Default 5 min.
   */
  readonly budget: Milliseconds;
  /** How long inboxes are kept; 0: for ever. Chunks of runs that are a day from that age are refused. Default 30 d. */
  readonly inboxRetention: Milliseconds;
}

export const processorDefaults: ProcessorConfig = {
  prefetch: 20,
  children: 2,
  childHeap: 0,
  budget: 300_000,
  inboxRetention: 30 * 86_400_000,
};

export const processorOptions = {
  prefetch: option({
    env: 'MILLRACE_PROCESSOR_PREFETCH',
    kind: 'integer',
    default: processorDefaults.prefetch,
    min: 1,
    max: 1_000,
    description:
      'Chunks of one job that a processor holds at once: while some commit, the next ones run. Four until one of them took less than 250 ms.',
  }),
  children: option({
    env: 'MILLRACE_PROCESSOR_CHILDREN',
    kind: 'integer',
    default: processorDefaults.children,
    min: 1,
    max: 64,
    description: 'Processes that a processor starts, at most, for items that may have ended an earlier one.',
  }),
  childHeap: option({
    env: 'MILLRACE_PROCESSOR_CHILD_HEAP',
    kind: 'integer',
    default: processorDefaults.childHeap,
    max: 1_048_576,
    description:
      'MiB of JavaScript heap of each such process; an item that needs more counts as poisonous. 0 = as much as the processor itself.',
  }),
  budget: processorDefaults.budget,
  inboxRetention: retentionOptions.inboxRetention,
} satisfies Declared<ProcessorConfig>;
