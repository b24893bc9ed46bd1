import { main } from '@millrace/runtime';
import { consoleDefaults } from './config.ts';
import { wireConsole } from './wiring.ts';

await main('console', wireConsole, consoleDefaults);
