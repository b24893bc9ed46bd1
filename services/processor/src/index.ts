export { type ProcessorConfig, processorDefaults } from './config.ts';
export { wireProcessor } from './wiring.ts';
