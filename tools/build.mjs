// Bundles a service into one file: `node tools/build.mjs services/clock` writes services/clock/dist/main.js.
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build } from 'esbuild';

const folder = resolve(process.argv[2] ?? '.');
const entry = join(folder, 'src', 'main.ts');
if (!existsSync(entry)) {
  console.error(`no ${entry}: give the folder of a service`);
  process.exit(2);
}
await build({
  entryPoints: [entry],
  outfile: join(folder, 'dist', 'main.js'),
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: true,
  // What finds its own files beside itself at run time (WebAssembly, worker scripts, loaders) stays a package.
  external: ['@electric-sql/pglite', 'tsx', 'pino', 'pg-native', 'esbuild'],
  // CommonJS packages inside the bundle still call require() for what Node brings.
  banner: { js: "import { createRequire as millraceRequire } from 'node:module'; const require = millraceRequire(import.meta.url);" },
  logLevel: 'warning',
});
console.log(`built ${basename(folder)}`);
