import { main } from '@millrace/runtime';
import { plannerOptions } from './config.ts';
import { wirePlanner } from './wiring.ts';

await main('planner', wirePlanner, plannerOptions, {
  migrations: [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }],
});
