import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { platformOptions } from './platform-options.ts';

test('docs/options.md has a row for every option, with its default and description', () => {
  const page = readFileSync(new URL('../../../docs/options.md', import.meta.url), 'utf8');
  for (const { env, description } of Object.values(platformOptions)) {
    expect(page).toContain(`\`${env}`);
    expect(page).toContain(description.replaceAll('|', '\\|'));
  }
});
