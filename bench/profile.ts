/**
 * Where a process spent its time: `BENCH_PROFILE=<folder> npm run bench -- --only millrace` leaves a profile of Node's own for each
 * process, and `node --import tsx bench/profile.ts <folder>` prints the busiest functions of each and draws a flame graph beside it.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { flame, type Profile } from './flame.ts';

const folder = process.argv[2] ?? '.';
const top = Number(process.argv[3] ?? 40);
for (const file of readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'))) {
  const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile;
  const { nodes, samples, timeDeltas } = profile;
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const self = new Map<string, number>();
  let busy = 0;
  const urls = new Map<string, number>();
  samples.forEach((id, i) => {
    const { functionName, url, lineNumber } = byId.get(id)?.callFrame ?? { functionName: '', url: '', lineNumber: 0 };
    if (functionName === '(idle)' || functionName === '(program)') return;
    const micros = timeDeltas[i] ?? 0;
    busy += micros;
    const place = `${functionName || '(anonymous)'} ${basename(url)}:${lineNumber + 1}`;
    self.set(place, (self.get(place) ?? 0) + micros);
    urls.set(url, (urls.get(url) ?? 0) + micros);
  });
  const main = [...urls].sort((a, b) => b[1] - a[1]).find(([url]) => url.startsWith('file:'))?.[0] ?? '';
  process.stdout.write(`\n${file} (${main.replace(/^.*\/(?=services|shared|bench)/, '')}): ${(busy / 1e6).toFixed(2)} s busy\n`);
  for (const [place, micros] of [...self].sort((a, b) => b[1] - a[1]).slice(0, top))
    process.stdout.write(`  ${((micros * 100) / busy).toFixed(1).padStart(5)} %  ${place}\n`);
  const svg = join(folder, file.replace(/cpuprofile$/, 'svg'));
  writeFileSync(svg, flame(profile, `${file.replace(/-.*/, '')}: ${(busy / 1e6).toFixed(2)} s busy`));
  process.stdout.write(`  ${svg}\n`);
}
