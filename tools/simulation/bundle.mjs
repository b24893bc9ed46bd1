import { build } from 'esbuild';

await build({
  entryPoints: [new URL('./main.ts', import.meta.url).pathname],
  outfile: process.argv[2],
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
  external: [
    '@electric-sql/pglite',
    'tsx',
    'pino',
    'pg-native',
    'esbuild',
    'pg',
    'pg-copy-streams',
    'nats',
    '@nats-io/*',
    'amqplib',
    'inversify',
  ],
});
