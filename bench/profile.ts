/**
 * Where a process spent its time: `BENCH_PROFILE=<folder> npm run bench -- --only millrace` leaves a profile of Node's own for each
 * process, and `node --import tsx bench/profile.ts <folder>` prints the busiest functions of each.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

interface Profile {
  readonly nodes: readonly { id: number; callFrame: { functionName: string; url: string; lineNumber: number }; children?: number[] }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const folder = process.argv[2] ?? '.';
const top = Number(process.argv[3] ?? 40);
for (const file of readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'))) {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile;
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
}
