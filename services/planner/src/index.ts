export { type PlannerConfig, plannerDefaults, plannerOptions } from './config.ts';
export { wirePlanner } from './wiring.ts';
