import { option } from '@millrace/runtime';

/** How a processor runs. */
export interface ProcessorConfig {
  /** Chunks of one job that this process holds at once: while one commits, the next ones run. Default 4. */
  readonly prefetch: number;
}

export const processorDefaults: ProcessorConfig = { prefetch: 4 };

export const processorOptions = {
  prefetch: option({
    env: 'MILLRACE_PROCESSOR_PREFETCH',
    kind: 'integer',
    default: processorDefaults.prefetch,
    min: 1,
    max: 1_000,
    description: 'Chunks of one job that a processor holds at once: while one commits, the next ones run.',
  }),
};
