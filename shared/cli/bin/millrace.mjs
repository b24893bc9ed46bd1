#!/usr/bin/env node
// From a published package: the bundle. From a checkout: the sources, through tsx.
import { existsSync } from 'node:fs';

const bundle = new URL('../dist/main.js', import.meta.url);
let entry = bundle;
if (!existsSync(bundle)) {
  const { register } = await import('tsx/esm/api');
  register();
  entry = new URL('../src/main.ts', import.meta.url);
}
const { main } = await import(entry.href);
process.exitCode = await main(process.argv);
// Connections of libraries that nobody can close must not keep a finished command alive. Output first: pipes are written in the background.
for (const stream of [process.stdout, process.stderr]) await new Promise((done) => stream.write('', done));
process.exit();
