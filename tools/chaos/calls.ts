import { readFileSync } from 'node:fs';

/** How often sampled items were given to the job's code, per attempt. */
export interface Calls {
  readonly mean: number;
  readonly most: number;
}

/** From the file in which the job notes run, item and attempt of each call. */
export function callsIn(file: string): Calls {
  const counts = new Map<string, number>();
  let lines: string[] = [];
  try {
    lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  } catch {
    // No item was called at all.
  }
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1);
  return { mean: lines.length / Math.max(1, counts.size), most: Math.max(0, ...counts.values()) };
}
