import { readFileSync } from 'node:fs';
import type { App } from '../app.ts';

const WEB = new URL('../web/', import.meta.url);
const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
] as const;

/** The page is three plain files, read once. */
export function pageRoutes(app: App): void {
  for (const [path, file, type] of FILES) {
    const text = readFileSync(new URL(file, WEB), 'utf8');
    app.get(path, { schema: { hide: true } }, async (_request, reply) => reply.type(type).header('cache-control', 'no-cache').send(text));
  }
}
