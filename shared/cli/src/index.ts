export { type ConsoleApi, connectApi } from './connect-api.ts';
export { EXIT, exitCodeOf } from './exit-codes.ts';
export { main } from './main.ts';
export { migrationSets } from './migrations.ts';
