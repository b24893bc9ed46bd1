import { main } from '@millrace/runtime';
import { clockOptions } from './config.ts';
import { wireClock } from './wiring.ts';

await main('clock', wireClock, clockOptions);
