export { type PlannerConfig, plannerDefaults } from './config.ts';
export { wirePlanner } from './wiring.ts';
