#!/usr/bin/env node
// In a checkout: the sources, through tsx, whatever was built. In a published package: the bundle.
import { existsSync } from 'node:fs';

const source = new URL('../src/bin.ts', import.meta.url);
if (existsSync(source)) {
  const { register } = await import('tsx/esm/api');
  register();
  await import(source.href);
} else await import('../dist/main.js');
