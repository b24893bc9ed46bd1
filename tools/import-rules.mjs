// Holds the architecture's table of imports and the purity rule. Run alone it checks the whole workspace.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

const anything = () => true;
const from =
  (...allowed) =>
  (target) =>
    allowed.some(
      (name) => target === name || target.startsWith(`${name}/`) || (name.endsWith('*') && target.startsWith(name.slice(0, -1))),
    );
const CORE = '@millrace/core';
const SDK = 'millrace';
const TELEMETRY = '@opentelemetry/*';
const CONSOLE_HTTP = ['fastify', '@fastify/*', 'typebox'];

const TEST_CODE = /\.test\.tsx?$|[-./](contract|fixtures?|samples|sim)\.ts$|^(examples|bench|deploy|tools)\//;

/** First match wins. `packages` judges names, `folders` judges relative imports by the path they lead to. */
const LAYERS = [
  { path: TEST_CODE, name: 'tests and examples', packages: anything, folders: anything },
  { path: /^shared\/core\//, name: 'shared/core', packages: from('typebox', 'croner'), folders: within('shared/core') },
  { path: /^shared\/sdk\//, name: 'shared/sdk', packages: from(CORE, SDK, 'typebox'), folders: within('shared/sdk') },
  {
    path: /^shared\/messaging\//,
    name: 'shared/messaging',
    packages: from(CORE, 'amqplib', 'nats', '@nats-io/*', '@opentelemetry/api'),
    folders: within('shared/messaging'),
  },
  {
    path: /^shared\/postgres\//,
    name: 'shared/postgres',
    packages: from(CORE, 'pg', 'pg-copy-streams', '@electric-sql/*'),
    folders: within('shared/postgres'),
  },
  {
    path: /^shared\/runtime\//,
    name: 'shared/runtime',
    packages: from(CORE, '@millrace/messaging', '@millrace/postgres', SDK, TELEMETRY, 'pino', 'tsx'),
    folders: within('shared/runtime'),
  },
  { path: /^shared\/cli\//, name: 'shared/cli', packages: anything, folders: anything },
  { path: /^shared\/testing\//, name: 'shared/testing', packages: anything, folders: within('shared/testing') },
  {
    path: /^services\/console\/web\//,
    name: 'the dashboard',
    packages: from('preact', '@preact/*', 'uplot', 'vite'),
    folders: within('services/console/web'),
  },
  {
    path: /^services\/[^/]+\/src\/domain\//,
    name: 'a domain',
    packages: from(CORE),
    folders: (target, file) => target.startsWith(`${serviceOf(file)}/src/domain/`),
  },
  { path: /^services\/[^/]+\/src\/wiring\.ts$/, name: 'a wiring', packages: notAnotherService, folders: ownService },
  {
    path: /^services\/[^/]+\/src\/adapters\//,
    name: 'an adapter',
    packages: (target, file) =>
      from(CORE, '@millrace/messaging', '@millrace/postgres', '@millrace/runtime', '@opentelemetry/api')(target) || extras(target, file),
    folders: ownService,
  },
  {
    path: /^services\//,
    name: 'a use case',
    packages: (target, file) =>
      from(CORE, '@millrace/messaging', '@millrace/runtime', '@opentelemetry/api')(target) ||
      (target === '@millrace/postgres' && /books\.ts$|index\.ts$|main\.ts$/.test(file)) ||
      extras(target, file),
    folders: (target, file) => ownService(target) && !(target.includes('/adapters/') && !/\/(index|main)\.ts$/.test(file)),
  },
];

/** Jobs are loaded by planner and processor only, and the console alone speaks HTTP to people. */
function extras(target, file) {
  if (/^services\/(planner|processor)\//.test(file) && from(SDK)(target)) return true;
  return file.startsWith('services/console/') && from(...CONSOLE_HTTP)(target);
}

function within(folder) {
  return (target) => target.startsWith(`${folder}/`);
}

function serviceOf(file) {
  return file.split('/').slice(0, 2).join('/');
}

function ownService(target, file) {
  return target.startsWith('services/') && (file === undefined || serviceOf(target) === serviceOf(file));
}

function notAnotherService(target, file) {
  const service = /^@millrace\/(clock|planner|processor|audit|console)(\/|$)/.exec(target);
  return service === null || file.startsWith(`services/${service[1]}/`);
}

const IMPURE = [
  [/\bDate\.now\b/, 'Date.now'],
  [/\bnew Date\(\s*\)/, 'new Date()'],
  [/\bMath\.random\b/, 'Math.random'],
  [/\brandomUUID\b/, 'randomUUID'],
  [/(?<![.\w])set(Timeout|Interval)\b/, 'a timer'],
  [/(?<![.\w])fetch\(/, 'fetch'],
];
/** Where the world may be touched; everywhere else time, ids and randomness are arguments. */
const MAY_BE_IMPURE =
  /\/adapters\/|\/main\.ts$|^shared\/(runtime|cli|testing|messaging|postgres)\/|^services\/console\/web\/|^shared\/sdk\/src\/(sources|sinks|testing|embed)/;

const IMPORT = /(?:^|[;\s])(?:import|export)\s(?:[^'"`;]*?\sfrom\s*)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;

/** The broken rules of one file, as `path:line: what is wrong`. `path` is relative to the root, with slashes. */
export function violations(path, source) {
  const layer = LAYERS.find((candidate) => candidate.path.test(path));
  if (!layer) return [`${path}:1: no layer of tools/import-rules.mjs holds this folder`];
  const code = withoutComments(source);
  const lineAt = (index) => code.slice(0, index).split('\n').length;
  const found = [];
  for (const match of code.matchAll(IMPORT)) {
    const target = match[1] ?? match[2];
    if (target.startsWith('node:')) continue;
    const line = lineAt(match.index + match[0].indexOf(target));
    const relativeTarget = target.startsWith('.') ? posix.normalize(posix.join(dirname(path), target)) : undefined;
    const allowed = relativeTarget === undefined ? layer.packages(target, path) : layer.folders(relativeTarget, path);
    if (!allowed) found.push(`${path}:${line}: ${layer.name} may not import '${target}'`);
    if (target === 'inversify' && !path.endsWith('/wiring.ts') && layer.name !== 'tests and examples' && allowed)
      found.push(`${path}:${line}: only wiring.ts may import 'inversify'`);
  }
  if (!MAY_BE_IMPURE.test(path) && !TEST_CODE.test(path)) {
    for (const [index, text] of code.split('\n').entries())
      for (const [pattern, name] of IMPURE)
        if (pattern.test(text)) found.push(`${path}:${index + 1}: ${name} belongs in an adapter; take it as an argument`);
  }
  return found;
}

/** Blanks comments, keeping the line numbers; a `//` inside a string (an address) follows a colon or a quote. */
function withoutComments(source) {
  return source.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' ')).replace(/(^|[\s;{}(),])\/\/[^\n]*/g, '$1');
}

export function sourceFiles(root, folder = root) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (['node_modules', 'dist', 'coverage'].includes(entry.name) || entry.name.startsWith('.')) return [];
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sourceFiles(root, path);
    return /\.(ts|tsx|mts)$/.test(entry.name) ? [relative(root, path).split(sep).join('/')] : [];
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const root = join(import.meta.dirname, '..');
  const found = sourceFiles(root).flatMap((path) => violations(path, readFileSync(join(root, path), 'utf8')));
  for (const line of found) console.error(line);
  if (found.length > 0) process.exitCode = 1;
}
