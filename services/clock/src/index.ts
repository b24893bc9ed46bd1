export { type ClockConfig, clockDefaults, clockOptions } from './config.ts';
export { wireClock } from './wiring.ts';
