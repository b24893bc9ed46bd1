import { fileURLToPath } from 'node:url';
import { Child } from './child.ts';
import type { Contender } from './contender.ts';

/** Parts of the job alone, each in a process of its own: nothing that does the whole job can be faster. */
export const limits: readonly Contender[] = [
  limit('copy', 'COPY, 500 rows per transaction', ['postgres']),
  limit('copy-inbox', 'COPY and inbox row, 500 rows per transaction', ['postgres']),
  limit('copy-inbox-2', 'the same over 2 connections', ['postgres']),
  limit('rabbit', 'RabbitMQ, 500 items per message', ['rabbit']),
  limit('function', 'the pure function', []),
  limit('pglite', 'PGlite: COPY, 500 rows per transaction', []),
];

function limit(name: string, label: string, uses: Contender['uses']): Contender {
  return {
    name: `limit-${name}`,
    label: `limit: ${label}`,
    kind: 'limit',
    uses,
    writes: uses.includes('postgres'),
    async open(servers) {
      const env = { POSTGRES: servers.postgres.url, RABBIT: servers.rabbit.url };
      const child = new Child(fileURLToPath(new URL('./limits-process.ts', import.meta.url)), [name], env);
      await child.hear('ready');
      return {
        processes: { client: [child.pid] },
        async run(items) {
          child.tell({ items });
          await child.hear('done');
        },
        close: () => child.end(),
      };
    },
  };
}
