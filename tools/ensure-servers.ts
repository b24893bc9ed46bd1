import { ensureServers } from '@millrace/testing';

await ensureServers((line) => console.error(line)).catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
