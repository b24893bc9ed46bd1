import { option } from '@millrace/runtime';

/** How a clock runs. */
export interface ClockConfig {
  /** Milliseconds between looks at the job manifests: how soon a new job gets its first tick. Default 2000. */
  readonly poll: number;
}

export const clockOptions = {
  poll: option({ env: 'MILLRACE_CLOCK_POLL', kind: 'duration', default: 2_000, description: 'Time between looks at the job manifests.' }),
};

export const clockDefaults: ClockConfig = { poll: 2_000 };
