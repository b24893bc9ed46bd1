import { main } from '@millrace/runtime';
import { processorDefaults } from './config.ts';
import { wireProcessor } from './wiring.ts';

await main('processor', wireProcessor, processorDefaults);
