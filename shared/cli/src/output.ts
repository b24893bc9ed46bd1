import { stripVTControlCharacters } from 'node:util';

export type Format = 'table' | 'json' | 'jsonl';
export const FORMATS: readonly Format[] = ['table', 'json', 'jsonl'];

/** Data goes to stdout, everything else to stderr. */
export interface Output {
  readonly format: Format;
  /** stdout is a terminal, and colours are welcome there. */
  readonly color: boolean;
  /** Prints rows as the chosen format. `columns` are the fields a table shows. */
  rows(rows: readonly object[], columns: readonly string[]): void;
  /** Prints one object; `text` is its form for people. */
  object(value: object, text: () => string): void;
  line(text: string): void;
  note(text: string): void;
}

export function openOutput(
  format: Format,
  stdout: { write(text: string): unknown; isTTY?: boolean } = process.stdout,
  stderr: { write(text: string): unknown } = process.stderr,
): Output {
  const color = stdout.isTTY === true && !process.env['NO_COLOR'];
  const line = (text: string) => void stdout.write(`${text}\n`);
  return {
    format,
    color,
    line,
    note: (text) => void stderr.write(`${text}\n`),
    object: (value, text) => line(format === 'table' ? text() : format === 'json' ? JSON.stringify(value, null, 2) : JSON.stringify(value)),
    rows(rows, columns) {
      if (format === 'json') line(JSON.stringify(rows, null, 2));
      else if (format === 'jsonl') for (const row of rows) line(JSON.stringify(row));
      else line(tableOf(rows, columns, color));
    },
  };
}

/** Numbers stand right. Control characters of outside texts never reach the terminal. */
export function tableOf(rows: readonly object[], columns: readonly string[], color = false): string {
  const cells = rows.map((row) => columns.map((column) => (row as Record<string, unknown>)[column]));
  const texts = cells.map((row) => row.map((value) => (typeof value === 'number' ? number(value) : clean(String(value ?? '')))));
  const widths = columns.map((column, i) => Math.max(column.length, ...texts.map((row) => row[i]?.length ?? 0)));
  const right = columns.map((_, i) => cells.length > 0 && cells.every((row) => typeof row[i] === 'number'));
  const format = (row: readonly string[]) =>
    row
      .map((text, i) => (right[i] ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  const head = format(columns.map((column) => column.toUpperCase()));
  return [color ? `\u001b[1m${head}\u001b[22m` : head, ...texts.map(format)].join('\n');
}

/** One line without anything that steers a terminal. */
export function clean(text: string): string {
  return stripVTControlCharacters(text).replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
}

export function number(value: number): string {
  return value.toLocaleString('en-US');
}

export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  return seconds < 3_600
    ? `${Math.floor(seconds / 60)} min ${seconds % 60} s`
    : `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}
