import { codeOf, ERRORS, messageOf } from '@millrace/core';
import { checkMigrated } from '@millrace/postgres';
import { loadJobs, type Needs } from '@millrace/runtime';
import { EXIT } from '../exit-codes.ts';
import { migrationSets } from '../migrations.ts';
import { type LocalConfig, localConfig, openLocal } from '../open-local.ts';
import type { Output } from '../output.ts';

interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly fix: string;
}

/** Checks what Millrace needs, each on its own, so that one failure does not hide the next. */
export async function doctor(output: Output): Promise<number> {
  const findings: Finding[] = [];
  const check = async <T>(name: string, work: () => Promise<{ detail: string; value?: T }>): Promise<T | undefined> => {
    try {
      const { detail, value } = await work();
      findings.push({ check: name, ok: true, detail, fix: '' });
      return value;
    } catch (error) {
      const code = codeOf(error);
      findings.push({ check: name, ok: false, detail: messageOf(error), fix: code ? ERRORS[code].fix : '' });
      return undefined;
    }
  };

  await check('node', async () => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    if (major < 20 || (major === 20 && minor < 19)) throw new Error(`${process.version}; Millrace needs 20.19 or newer`);
    return { detail: process.version };
  });
  const config = await check('configuration', async () => {
    const value = await localConfig('warn');
    return { detail: value.mode === 'embedded' ? `embedded, data in ${value.platform.data}` : 'servers', value };
  });
  if (config) {
    await check('jobs', async () => ({ detail: [...(await loadJobs(config.platform.jobs)).keys()].join(', ') }));
    if (config.mode === 'embedded') await check('database', () => database(config));
    else {
      await check('PostgreSQL', () => database(config));
      await check('RabbitMQ', () => reach(config, { database: false, events: false, jobs: false }));
      await check('NATS', () => reach(config, { database: false, work: false, jobs: false }));
    }
  }
  if (output.format !== 'table') output.rows(findings, []);
  else
    for (const { check: name, ok, detail, fix } of findings)
      output.line(`${ok ? '✓' : '✗'} ${name}: ${detail}${fix ? `\n    fix: ${fix}` : ''}`);
  return findings.every(({ ok }) => ok) ? EXIT.ok : EXIT.error;
}

async function reach(config: LocalConfig, needs: Needs): Promise<{ detail: string }> {
  const platform = await openLocal(config, 'doctor', needs);
  await platform.close();
  return { detail: 'reachable' };
}

async function database(config: LocalConfig): Promise<{ detail: string }> {
  const { readLock } = await import('@millrace/postgres');
  const holder = config.mode === 'embedded' ? readLock(config.platform.data) : undefined;
  if (holder) return { detail: `in use by process ${holder.pid}${holder.url ? `, ${holder.url}` : ''}` };
  const platform = await openLocal(config, 'doctor', { work: false, events: false, jobs: false });
  try {
    await checkMigrated(platform.database, migrationSets);
    return { detail: 'reachable, schemas up to date' };
  } finally {
    await platform.close();
  }
}
