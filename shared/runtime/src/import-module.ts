import { pathToFileURL } from 'node:url';

let ready: Promise<unknown> | undefined;

/** Imports a file of the user's, TypeScript included. */
export async function importModule(file: string): Promise<Record<string, unknown>> {
  // A process that runs this module from its TypeScript source can load TypeScript already; a build cannot.
  if (/\.[cm]?tsx?$/.test(file) && !import.meta.url.endsWith('.ts')) {
    ready ??= import('tsx/esm/api').then(({ register }) => register());
    await ready;
  }
  return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
}
