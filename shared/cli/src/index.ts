export { type ConsoleApi, connectApi } from './connect-api.ts';
export { exitCodeOf } from './describe-failure.ts';
export { EXIT } from './exit-codes.ts';
export { main } from './main.ts';
export { migrationSets } from './migrations.ts';
