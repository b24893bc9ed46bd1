import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const SERVICES = ['clock', 'planner', 'processor', 'audit'];

/** Entry files of the services as they are deployed, by service. */
export type Bundles = Readonly<Record<string, string>>;

/** Those that were built in a checkout. */
export function bundlesIn(checkout: string): Bundles {
  return Object.fromEntries(SERVICES.map((name) => [name, join(checkout, 'services', name, 'dist', 'main.js')]));
}

export const BUNDLES = bundlesIn(root);
/** The benchmark's jobs as plain JavaScript, so that no process needs a TypeScript loader. */
export const JOBS = `${root}bench/dist/jobs`;

export async function buildBundles(): Promise<void> {
  for (const name of SERVICES)
    execFileSync(process.execPath, ['tools/build.mjs', `services/${name}`], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  rmSync(JOBS, { recursive: true, force: true });
  await build({
    entryPoints: { 'checksum.job': `${root}bench/jobs/checksum/job.ts`, 'probe.job': `${root}bench/jobs/probe/job.ts` },
    outdir: JOBS,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    conditions: ['source'],
    logLevel: 'warning',
  });
}
