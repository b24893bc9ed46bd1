import { main } from '@millrace/runtime';
import { processorOptions } from './config.ts';
import { wireProcessor } from './wiring.ts';

await main('processor', wireProcessor, processorOptions);
