import { hash } from 'node:crypto';

/** The job that everybody does: N items of about 200 bytes of JSON, SHA-1 of each payload, one row per item. */
export interface Item {
  readonly id: number;
  readonly payload: string;
}

const TEXT = 'Sphinx of black quartz, judge my vow. Pack my box with five dozen liquor jugs. How vexingly quick daft zebras jump! ';
const DOUBLE = TEXT + TEXT;

export function item(id: number): Item {
  const from = id % TEXT.length;
  return {
    id,
    payload: `${id} ${DOUBLE.slice(from, from + TEXT.length)} ${(id * 2_654_435_761) % 1_000_000_007} ${'0123456789'.repeat(4)}`,
  };
}

export function digest(payload: string): string {
  return hash('sha1', payload);
}

/** Each contender writes into the same table, emptied before. */
export const TABLE = 'checksums';
export const CREATE_TABLE = `create table if not exists ${TABLE} (id integer primary key, digest text not null)`;
export const UPSERT = `insert into ${TABLE} (id, digest) select * from unnest($1::integer[], $2::text[]) on conflict (id) do nothing`;

/** Items per message wherever chunks are made by hand. */
export const CHUNK = 500;

/** Ranges [from, to) that cut `items` into chunks. */
export function* chunks(items: number, size = CHUNK): Generator<readonly [from: number, to: number]> {
  for (let from = 0; from < items; from += size) yield [from, Math.min(items, from + size)];
}

export function itemsOf(from: number, to: number): Item[] {
  return Array.from({ length: to - from }, (_, i) => item(from + i));
}
