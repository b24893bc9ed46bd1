import type { Contender } from './contender.ts';

export interface Measurement {
  readonly name: string;
  readonly seconds: number;
  /** Seconds of processor time, by process. */
  readonly cpu: Readonly<Record<string, number>>;
  /** Peak megabytes, by process. */
  readonly memory: Readonly<Record<string, number>>;
}

export interface Summary {
  readonly name: string;
  readonly label: string;
  readonly kind: Contender['kind'];
  /** Items per second: median, least, most. */
  readonly rate: number;
  readonly least: number;
  readonly most: number;
  /** Processor seconds per million items, by process and in all: medians. */
  readonly cpu: Readonly<Record<string, number>>;
  readonly cpuTotal: number;
  readonly memory: Readonly<Record<string, number>>;
  /** How much faster the first contender was, round by round: median, and the middle half of the rounds, or all if they are few. */
  readonly toFirst: { readonly median: number; readonly from: number; readonly to: number };
  /** Rates in relation to the best peer with one entry per item, and to the limit that applies. */
  readonly toBestPeer: number | undefined;
  readonly toLimit: number | undefined;
}

/** From here on single rounds say nothing any more. */
const MANY_ROUNDS = 8;

export function summarise(contenders: readonly Contender[], measurements: readonly Measurement[], items: number): Summary[] {
  const measurementsOf = (contender: Contender | undefined) => measurements.filter(({ name }) => name === contender?.name);
  const first = measurementsOf(contenders[0]);
  const plain = contenders.map((contender) => {
    const { name, label, kind } = contender;
    const mine = measurementsOf(contender);
    const ratios = mine.map(({ seconds }, round) => seconds / (first[round]?.seconds ?? Number.NaN)).sort((a, b) => a - b);
    const cut = ratios.length < MANY_ROUNDS ? 0 : ratios.length >> 2;
    const rates = mine.map(({ seconds }) => items / seconds);
    const perMillion = (seconds: number) => (seconds * 1_000_000) / items;
    const processes = [...new Set(mine.flatMap(({ cpu }) => Object.keys(cpu)))];
    return {
      name,
      label,
      kind,
      rate: median(rates),
      least: Math.min(...rates),
      most: Math.max(...rates),
      toFirst: { median: median(ratios), from: ratios[cut] ?? Number.NaN, to: ratios.at(-1 - cut) ?? Number.NaN },
      cpu: Object.fromEntries(processes.map((process) => [process, perMillion(median(mine.map(({ cpu }) => cpu[process] ?? 0)))])),
      cpuTotal: perMillion(median(mine.map(({ cpu }) => Object.values(cpu).reduce((sum, seconds) => sum + seconds, 0)))),
      memory: Object.fromEntries(
        [...new Set(mine.flatMap(({ memory }) => Object.keys(memory)))].map((process) => [
          process,
          Math.max(...mine.map(({ memory }) => memory[process] ?? 0)),
        ]),
      ),
    };
  });
  const rateOf = (name: string) => plain.find((one) => one.name === name)?.rate;
  const bestPeer = Math.max(0, ...plain.filter(({ kind }) => kind === 'item').map(({ rate }) => rate));
  return plain.map((one) => {
    const limit = rateOf(one.name === 'embedded' ? 'limit-pglite' : 'limit-copy-inbox');
    return {
      ...one,
      toBestPeer: bestPeer > 0 && one.kind !== 'limit' ? one.rate / bestPeer : undefined,
      toLimit: limit !== undefined && one.kind !== 'limit' ? one.rate / limit : undefined,
    };
  });
}

export function table(summary: readonly Summary[], items: number, rounds: number): string {
  const whole = (value: number) => Math.round(value).toLocaleString('en');
  const ratio = (value: number | undefined) => (value === undefined ? '' : value.toFixed(2));
  const parts = (values: Readonly<Record<string, number>>) =>
    Object.entries(values)
      .map(([name, value]) => `${name} ${value < 10 ? value.toFixed(1) : whole(value)}`)
      .join(' · ');
  const lines = summary.map(
    (one) =>
      `| ${one.label} | ${whole(one.rate)} | ${whole(one.least)}–${whole(one.most)} | ${ratio(one.toFirst.median)} (${ratio(one.toFirst.from)}–${ratio(one.toFirst.to)}) | ${ratio(one.toBestPeer)} | ${ratio(one.toLimit)} | ${one.cpuTotal.toFixed(1)} | ${parts(one.cpu)} | ${parts(one.memory)} |`,
  );
  return [
    `| ${whole(items)} items, ${rounds} rounds | items/s | range | ${summary[0]?.label} is faster by (${rounds < MANY_ROUNDS ? 'range' : 'middle half'}) | × best item-granular peer | × limit | CPU s per million | by process | peak MB |`,
    '|---|---|---|---|---|---|---|---|---|',
    ...lines,
    '',
  ].join('\n');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
