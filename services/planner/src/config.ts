/** What can be set about a planner. */
export interface PlannerConfig {
  /** Chunks of one run that may be in the broker at once. Default 1000. */
  readonly window: number;
  /** Runs that one planner plans at the same time. Default 4. */
  readonly planning: number;
  /** Milliseconds between scans for due ticks. Default 30000. */
  readonly scanEvery: number;
  /**
   * Where a new job's schedule starts: `now`, or `latest` to run its latest past tick at once (`millrace dev`).
   * Default `now`.
   */
  readonly firstTick: 'now' | 'latest';
  /** This is the only planner on its database (embedded mode): it takes over interrupted planning at once. Default false. */
  readonly alone: boolean;
}

export const plannerDefaults: PlannerConfig = { window: 1_000, planning: 4, scanEvery: 30_000, firstTick: 'now', alone: false };
