import { option } from './options.ts';

/**
 * How long books are kept. Several services must agree on these, so the declarations are shared: set them by environment, for all
 * services alike.
 */
export const retentionOptions = {
  retention: option({
    env: 'MILLRACE_RETENTION',
    kind: 'duration',
    default: 90 * 86_400_000,
    description: 'How long plan and ledger of a closed run are kept; 0 = for ever.',
  }),
  inboxRetention: option({
    env: 'MILLRACE_INBOX_RETENTION',
    kind: 'duration',
    default: 30 * 86_400_000,
    description:
      'How long the records that make effects exactly once are kept; 0 = for ever. A run is worked on, and may be redriven, until one day before that age. Same for all services.',
  }),
};
