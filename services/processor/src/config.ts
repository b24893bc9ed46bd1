/** How a processor runs. */
export interface ProcessorConfig {
  /** Chunks of one job that this process holds at once: while one commits, the next ones run. Default 4. */
  readonly prefetch: number;
}

export const processorDefaults: ProcessorConfig = { prefetch: 4 };
