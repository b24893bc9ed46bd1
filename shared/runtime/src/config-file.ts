import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { MillraceError, messageOf } from '@millrace/core';
import { importModule } from './import-module.ts';

/** Values of `millrace.config.{json,js,mjs,ts}`: the options of the platform by name, and one object per service. */
export interface ConfigFile {
  readonly name: string;
  readonly directory: string;
  readonly values: Readonly<Record<string, unknown>>;
}

const NAMES = ['json', 'ts', 'js', 'mjs'].map((extension) => `millrace.config.${extension}`);

/**
 * Reads the configuration file of `directory`, or the one named by `MILLRACE_CONFIG`. Undefined where there is none.
 * Throws MR2001 for a file that cannot be read, that holds no object, or when there are two.
 */
export async function loadConfigFile(directory: string, named?: string): Promise<ConfigFile | undefined> {
  const found = named ? [resolve(directory, named)] : NAMES.map((name) => join(directory, name)).filter((file) => existsSync(file));
  const [file, second] = found;
  if (!file) return undefined;
  if (second) throw new MillraceError('MR2001', `both ${basename(file)} and ${basename(second)} exist; keep one of them`);
  let values: unknown;
  try {
    values = file.endsWith('.json') ? JSON.parse(await readFile(file, 'utf8')) : (await importModule(file)).default;
  } catch (cause) {
    throw new MillraceError('MR2001', `${file} cannot be read: ${messageOf(cause)}`, { cause });
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new MillraceError('MR2001', `${file} holds no object${file.endsWith('.json') ? '' : '; write `export default { … }`'}`);
  }
  return { name: basename(file), directory: dirname(file), values: values as Record<string, unknown> };
}
