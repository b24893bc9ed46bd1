import { expect, test } from '@jest/globals';
// @ts-expect-error plain JavaScript, so that it runs before anything is built
import { violations } from './import-rules.mjs';

const wrong: readonly (readonly [string, string, string])[] = [
  ['shared/core/src/x.ts', "import pg from 'pg';", "shared/core may not import 'pg'"],
  ['shared/core/src/x.ts', "import { y } from '../../sdk/src/y.ts';", "may not import '../../sdk/src/y.ts'"],
  ['shared/sdk/src/x.ts', "import { Database } from '@millrace/postgres';", "may not import '@millrace/postgres'"],
  ['services/planner/src/domain/x.ts', "import { plan } from '../planner.ts';", "a domain may not import '../planner.ts'"],
  ['services/planner/src/planner.ts', "import {\n  X,\n} from './adapters/x.ts';", "a use case may not import './adapters/x.ts'"],
  ['services/planner/src/planner.ts', "import { Container } from 'inversify';", "may not import 'inversify'"],
  ['services/audit/src/audit.ts', "import { defineJob } from 'millrace';", "may not import 'millrace'"],
  ['services/audit/src/wiring.ts', "import { wirePlanner } from '@millrace/planner';", "may not import '@millrace/planner'"],
  [
    'services/audit/src/adapters/x.ts',
    "const y = await import('../../../planner/src/y.ts');",
    "may not import '../../../planner/src/y.ts'",
  ],
  ['services/planner/src/new-folder/x.ts', "import pg from 'pg';", "a use case may not import 'pg'"],
  ['shared/runtime/src/x.ts', "export * from '@millrace/clock';", "may not import '@millrace/clock'"],
  ['services/clock/src/clock.ts', 'const now = Date.now();', 'Date.now belongs in an adapter'],
  ['services/clock/src/domain/x.ts', 'const d = new Date( );', 'new Date() belongs'],
  ['services/clock/src/clock.ts', 'setTimeout(tick, 5);', 'a timer belongs'],
  ['services/clock/src/clock.ts', "import { randomUUID } from 'node:crypto';", 'randomUUID belongs'],
];

test.each(wrong)('a wrong line in %s is caught: %s', (path, source, message) => {
  const found: string[] = violations(path, `// first line\n${source}\n`);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(message);
  expect(found[0]).toMatch(new RegExp(`^${path}:[2-4]: `));
});

const right: readonly (readonly [string, string])[] = [
  ['shared/core/src/x.ts', "import { Type } from 'typebox';\nimport { y } from './y.ts';"],
  ['services/planner/src/planner.ts', "import type { Job } from 'millrace';\nimport { x } from './domain/x.ts';"],
  ['services/planner/src/wiring.ts', "import { Container } from 'inversify';\nimport { X } from './adapters/x.ts';"],
  ['services/planner/src/adapters/x.ts', "import type { Database } from '@millrace/postgres';\nconst now = Date.now();"],
  ['services/clock/src/clock.ts', '/** Never Date.now here. */\n// nor setTimeout\nconst d = new Date(5); time.setTimeout();'],
  ['services/clock/src/clock.test.ts', "import pg from 'pg';\nDate.now();"],
];

test.each(right)('what the table allows in %s passes', (path, source) => {
  expect(violations(path, source)).toEqual([]);
});
