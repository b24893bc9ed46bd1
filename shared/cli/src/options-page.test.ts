import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { auditOptions } from '@millrace/audit';
import { clockOptions } from '@millrace/clock';
import { consoleOptions } from '@millrace/console';
import { plannerOptions } from '@millrace/planner';
import { processorOptions } from '@millrace/processor';
import { isOption, optionRows, platformOptions } from '@millrace/runtime';

const SERVICES = {
  clock: clockOptions,
  planner: plannerOptions,
  processor: processorOptions,
  audit: auditOptions,
  console: consoleOptions,
};

test('docs/options.md has exactly one row for every option of platform and services', () => {
  const page = readFileSync(new URL('../../../docs/options.md', import.meta.url), 'utf8');
  const declared = [
    ...optionRows(platformOptions),
    ...Object.entries(SERVICES).flatMap(([service, options]) =>
      optionRows(Object.fromEntries(Object.entries(options).filter(([, value]) => isOption(value))), service),
    ),
  ].map(({ env, file, kind, default: value, description }) => {
    const [name, alternative] = env.split(/(?= \()/);
    const secret = alternative ? ` (or \`${alternative.slice(5, -1)}\`)` : '';
    return `| \`${name}\`${secret} | \`${file}\` | ${kind.replaceAll('|', '\\|')} | ${value} | ${description.replaceAll('|', '\\|')} |`;
  });
  const rows = page.split('\n').filter((line) => line.startsWith('| `'));
  expect(rows).toEqual(declared);
});
