// Builds a service, or the command, into a folder that runs alone, wherever it is copied: `node tools/build.mjs services/clock`
// writes services/clock/dist, a second argument names another folder. The containers hold nothing else.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { build } from 'esbuild';

const root = resolve(import.meta.dirname, '..');
const folder = resolve(process.argv[2] ?? '.');
const dist = resolve(process.argv[3] ?? join(folder, 'dist'));
const entry = ['bin.ts', 'main.ts'].map((file) => join(folder, 'src', file)).find(existsSync);
if (!entry) {
  console.error(`no src/main.ts in ${folder}: give the folder of a service, or shared/cli`);
  process.exit(2);
}
const { name, dependencies } = manifestOf(folder);

// Bundled are all packages but those that user code imports too (both must get the same one), or that find files of their own at run time.
const external = ['pg-native', 'tsx', '@electric-sql/pglite'];
const besides = [];
if ('millrace' in dependencies) {
  external.push('millrace', 'typebox');
  besides.push('tsx');
}
if ('@electric-sql/pglite' in dependencies) besides.push('@electric-sql/pglite');

rmSync(dist, { recursive: true, force: true });
// Processors start processes of their own, whose entry lies beside the bundle.
const children = name === '@millrace/processor' || '@millrace/processor' in dependencies;
const child = join(root, 'services', 'processor', 'src', 'adapters', 'child-main.ts');
await bundle({ entryPoints: { main: entry, ...(children && { 'child-main': child }) }, outdir: dist, external });
writeFileSync(join(dist, 'package.json'), `${JSON.stringify({ name, private: true, type: 'module' })}\n`);
if ('millrace' in dependencies) {
  await buildPackage(join(root, 'shared', 'sdk'), ['typebox']);
  await buildPackage(findPackage('typebox', root));
}
for (const one of besides) copyPackage(one, root);
console.log(`built ${name}`);

async function bundle(options) {
  await build({
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: true,
    logLevel: 'warning',
    plugins: [filesOfSources(options.outdir)],
    // In one file: split, a dynamic import of a CommonJS package would lose its names.
    splitting: false,
    // CommonJS packages inside the bundle still call require() for what Node brings.
    banner: { js: "import { createRequire as millraceRequire } from 'node:module'; const require = millraceRequire(import.meta.url);" },
    ...options,
  });
}

/**
 * A package that jobs import, with the exports that it has, in a few files: loading the 700 of typebox took half of a process's start.
 */
async function buildPackage(from, external = []) {
  const { name, version, license, exports } = manifestOf(from);
  const outdir = join(dist, 'node_modules', name);
  const files = Object.entries(exports).map(([path, to]) => [path, path === '.' ? 'index' : path.slice(2), join(from, to.import ?? to)]);
  const entryPoints = Object.fromEntries(files.map(([, file, source]) => [file, source]));
  await bundle({ entryPoints, outdir, external, splitting: true });
  const built = Object.fromEntries(files.map(([path, file]) => [path, `./${file}.js`]));
  writeFileSync(join(outdir, 'package.json'), `${JSON.stringify({ name, version, license, type: 'module', exports: built }, null, 2)}\n`);
  if (existsSync(join(from, 'license'))) cpSync(join(from, 'license'), join(outdir, 'license'));
}

/** Sources name files beside them as `new URL('./file', import.meta.url)`: those are copied to `files/` beside the bundle. */
function filesOfSources(outdir) {
  return {
    name: 'files of sources',
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        const source = readFileSync(path, 'utf8');
        const contents = source.replace(/new URL\((.+?), import\.meta\.url\)/g, (_, argument) => {
          const file = /^'(\.[^']+)'$/.exec(argument)?.[1];
          if (!file) throw new Error(`${relative(root, path)}: new URL(${argument}, import.meta.url) must name a file literally`);
          const from = join(dirname(path), file);
          const to = `files/${relative(root, from).split(sep).join('/')}`;
          cpSync(from, join(outdir, to), { recursive: true });
          return `new URL('./${to}${file.endsWith('/') ? '/' : ''}', import.meta.url)`;
        });
        return { contents, loader: 'ts' };
      });
    },
  };
}

/** Copies a package with all it depends on, each to where its importer finds it. */
function copyPackage(name, importer) {
  const from = findPackage(name, importer);
  if (!from) throw new Error(`${name} is not installed`);
  const to = join(dist, relative(root, from));
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, filter: (path) => !relative(from, path).split(sep).includes('node_modules') });
  const { dependencies = {}, optionalDependencies = {} } = manifestOf(from);
  for (const one of Object.keys({ ...dependencies, ...optionalDependencies }))
    if (one in dependencies || findPackage(one, from)) copyPackage(one, from);
}

function findPackage(name, importer) {
  for (let at = importer; at.startsWith(root); at = dirname(at)) {
    const found = join(at, 'node_modules', name);
    if (existsSync(found)) return found;
  }
  return undefined;
}

function manifestOf(path) {
  return { dependencies: {}, ...JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) };
}
