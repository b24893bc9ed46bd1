import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Database } from './database.ts';
import { checkMigrated, type MigrationSet, migrate } from './migrate.ts';

/** The same calls must give the same answers on every adapter. */
export function databaseContract(name: string, open: () => Promise<Database>): void {
  describe(`${name} as a Database`, () => {
    let db: Database;
    beforeAll(async () => {
      db = await open();
      await db.query('create table t (id integer primary key, v text, j jsonb, at timestamptz)');
    }, 60_000);
    afterAll(() => db?.close());

    test('values arrive as pg gives them', async () => {
      const { rows } = await db.query(
        `select 9007199254740993::bigint as b, 1.50::numeric as n, 7 as i, 1.5::float8 as f, true as t, null as nothing, $1::jsonb as j, $2::text[] as a,
         timestamptz '2026-11-24T00:10:00Z' as at`,
        [JSON.stringify({ a: [1] }), ['x', 'y"z\\']],
      );
      expect(rows).toEqual([
        {
          b: '9007199254740993',
          n: '1.50',
          i: 7,
          f: 1.5,
          t: true,
          nothing: null,
          j: { a: [1] },
          a: ['x', 'y"z\\'],
          at: new Date('2026-11-24T00:10:00Z'),
        },
      ]);
    });

    test('rowCount tells how many rows a statement changed', async () => {
      expect((await db.query('insert into t (id) values (1), (2)')).rowCount).toBe(2);
      expect((await db.query('insert into t (id) values ($1) on conflict do nothing', [1])).rowCount).toBe(0);
      expect((await db.query('update t set v = $1 where id <= 2 returning id', ['x'])).rowCount).toBe(2);
      expect((await db.query('delete from t where id = any($1::integer[])', [[1, 2]])).rowCount).toBe(2);
    });

    test('COPY takes every kind of value as it is', async () => {
      const text = 'tab\t, newline\n, return\r, backslash \\ and \\N, "quotes", ünïcødé 🌅';
      const at = new Date('2026-11-24T00:10:00.123Z');
      await db.transaction((tx) =>
        tx.copy(
          't',
          ['id', 'v', 'j', 'at'],
          [
            [1, text, { text }, at],
            [2, null, undefined, null],
            [3, 'x'.repeat(300_000), [1], at],
          ],
        ),
      );
      const { rows } = await db.query<{ id: number; v: string | null }>('select id, v, j, at from t order by id');
      expect(rows[0]).toEqual({ id: 1, v: text, j: { text }, at });
      expect(rows[1]).toEqual({ id: 2, v: null, j: null, at: null });
      expect(rows[2]?.v).toHaveLength(300_000);
      await db.query('delete from t');
    });

    test('a transaction that throws leaves nothing behind, and the error keeps its SQL state', async () => {
      const failed = db.transaction(async (tx) => {
        await tx.query('insert into t (id) values (1)');
        await tx.query('insert into t (id) values (1)');
      });
      await expect(failed).rejects.toMatchObject({ code: '23505' });
      await expect(
        db.transaction(async (tx) => {
          await tx.query('insert into t (id) values (1)');
          throw new Error('changed my mind');
        }),
      ).rejects.toThrow('changed my mind');
      expect((await db.query('select * from t')).rows).toEqual([]);
    });

    test('a server that is full or cannot read its files has a code of ours: no statement is to blame', async () => {
      for (const state of ['53100', '53200', '58030']) {
        const failing = `do $$ begin raise exception 'no space left' using errcode = '${state}'; end $$`;
        const trouble = { code: 'MR3012', message: expect.stringContaining('no space left'), cause: { code: state } };
        await expect(db.query(failing)).rejects.toMatchObject(trouble);
        await expect(db.transaction((tx) => tx.query(failing))).rejects.toMatchObject(trouble);
      }
      expect((await db.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
    });

    test('texts that are bytes already go beside others, be they long or short', async () => {
      const long = 'é'.repeat(10_000);
      const insert = 'insert into t (id, v) values ($1, $2), ($3, $4), ($5, $6)';
      const params = [1, Buffer.from(long), 2, Buffer.from('ü'), 3, null];
      expect(await db.query(insert, params)).toMatchObject({ rows: [], rowCount: 3 });
      expect((await db.query('select v from t order by id')).rows).toEqual([{ v: long }, { v: 'ü' }, { v: null }]);
      await expect(db.query(insert, params)).rejects.toMatchObject({ code: '23505' });
      expect(await db.query('update t set v = $1 where id < $2 returning id', [Buffer.from(long), 3])).toMatchObject({ rowCount: 2 });
      await db.query('delete from t');
    });

    test('a statement and a COPY in one round trip are one transaction', async () => {
      const insert = 'insert into t (id, v) values ($1, $2) returning id, v, null as nothing';
      const records = [{ v: 'a\tb', id: 2, more: 'is left out' }, { id: 3, v: null }, { id: 4 }];
      expect(await db.queryAndCopy(insert, [1, 'one'], 't', ['id', 'v'], records)).toMatchObject({
        rows: [{ id: 1, v: 'one', nothing: null }],
        rowCount: 1,
      });
      const all = async () => (await db.query('select id, v from t order by id')).rows;
      const before = [
        { id: 1, v: 'one' },
        { id: 2, v: 'a\tb' },
        { id: 3, v: null },
        { id: 4, v: null },
      ];
      expect(await all()).toEqual(before);
      // The statement fails: nothing is copied, and the connection is as good as before.
      await expect(db.queryAndCopy(insert, [1, 'again'], 't', ['id', 'v'], [{ id: 5, v: 'x' }])).rejects.toMatchObject({ code: '23505' });
      // The COPY fails: the statement is undone.
      await expect(
        db.queryAndCopy(
          insert,
          [5, 'x'],
          't',
          ['id', 'v'],
          [
            { id: 6, v: 'y' },
            { id: 6, v: 'z' },
          ],
        ),
      ).rejects.toMatchObject({ code: '23505' });
      expect(await all()).toEqual(before);
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => db.queryAndCopy(insert, [10 + 2 * i, 'p'], 't', ['id', 'v'], [{ id: 11 + 2 * i, v: 'q' }])),
      );
      expect(await db.queryAndCopy(insert, [100, 'alone'], 't', ['id', 'v'], [])).toMatchObject({ rowCount: 1 });
      expect((await all()).length).toBe(45);
      await db.query('delete from t');
    });

    test('transactions at once do not mix', async () => {
      await db.query('insert into t (id, v) values (1, $1)', ['0']);
      await Promise.all(
        Array.from({ length: 20 }, () =>
          db.transaction(async (tx) => {
            const { rows } = await tx.query<{ v: string }>('select v from t where id = 1 for update');
            await tx.query('update t set v = $1 where id = 1', [String(Number(rows[0]?.v) + 1)]);
          }),
        ),
      );
      expect((await db.query('select v from t')).rows).toEqual([{ v: '20' }]);
      await db.query('delete from t');
    });

    test('a serialization failure is tried again', async () => {
      let tries = 0;
      const result = await db.transaction(async () => {
        if (++tries < 3) throw Object.assign(new Error('could not serialize'), { code: '40001' });
        return tries;
      });
      expect(result).toBe(3);
    });

    test('migrations run once, and a changed or unknown one is refused', async () => {
      const first = { name: '0001-a.sql', sql: 'create schema s; create table s.a (id integer);' };
      const second = { name: '0002-b.sql', sql: 'create table s.b (id integer);' };
      const set = (...source: { name: string; sql: string }[]): MigrationSet[] => [{ schema: 's', source }];
      await expect(checkMigrated(db, set(first))).rejects.toMatchObject({ code: 'MR3010' });
      expect(await migrate(db, set(first))).toEqual(['s/0001-a.sql']);
      expect(await migrate(db, set(first, second))).toEqual(['s/0002-b.sql']);
      expect(await migrate(db, set(first, second))).toEqual([]);
      await checkMigrated(db, set(first, second));
      await expect(migrate(db, set(first))).rejects.toMatchObject({ code: 'MR3009' });
      await expect(migrate(db, set({ ...first, sql: 'select 1' }, second))).rejects.toMatchObject({ code: 'MR3014' });
      await expect(
        migrate(db, set(first, second, { name: '0003-c.sql', sql: 'create table s.c (id integer); select 1/0;' })),
      ).rejects.toMatchObject({ code: '22012' });
      expect((await db.query(`select to_regclass('s.c') as c`)).rows).toEqual([{ c: null }]);
    });
  });
}
