export { type ProcessorConfig, processorDefaults, processorOptions } from './config.ts';
export { wireProcessor } from './wiring.ts';
