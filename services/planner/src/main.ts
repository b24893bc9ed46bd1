import { main } from '@millrace/runtime';
import { plannerDefaults } from './config.ts';
import { wirePlanner } from './wiring.ts';

await main('planner', wirePlanner, plannerDefaults, {
  migrations: [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }],
});
