import { main } from '@millrace/runtime';
import { consoleOptions } from './config.ts';
import { wireConsole } from './wiring.ts';

await main('console', wireConsole, consoleOptions);
