import { describe, expect, test } from '@jest/globals';
import { codeOf, messageOf } from '@millrace/core';
import Type from 'typebox';
import { checkJobs, columns, defineJob, isJob, type Job, type JobOptions, postgres } from './index.ts';

function define(name: string, options: unknown = {}): Job {
  return defineJob(name, options as JobOptions)
    .items(() => [1], { key: (item) => item })
    .process((item) => item)
    .commit(() => {});
}

function refusal(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    return `${codeOf(error)} ${messageOf(error)}`;
  }
  return undefined;
}

describe('defineJob', () => {
  test('a job without options has the documented defaults', () => {
    const { revision, ...manifest } = define('plain').manifest;
    expect(revision).toMatch(/^[0-9a-f]{32}$/);
    expect(manifest).toEqual({
      name: 'plain',
      description: '',
      schedule: null,
      after: [],
      params: null,
      concurrency: 64,
      timeout: 30_000,
      retry: { attempts: 5, backoff: 'exponential', base: 1_000, max: 300_000 },
      batch: { size: 500 },
      inbox: 'here',
      run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
    });
  });

  test('a spooled source says so in the manifest', () => {
    const spooled = (spool: unknown) =>
      defineJob('s')
        .items(() => [1], { key: (item) => item, spool: spool as boolean })
        .process((item) => item)
        .commit(() => {}).manifest.spool;
    expect([spooled(true), spooled(false)]).toEqual([true, undefined]);
    expect(refusal(() => spooled('yes'))).toMatch(/^MR1004 .*spool/);
  });

  test('every option arrives in the manifest', () => {
    const { manifest } = define('full', {
      description: 'd',
      schedule: { cron: '0 3 * * *', timeZone: 'Asia/Kolkata', overlap: 'bufferOne', catchUp: { mode: 'all', window: '2h' } },
      after: [{ job: 'other' }, { job: 'third', on: 'failure' }],
      params: Type.Object({ a: Type.Number() }),
      concurrency: 2,
      timeout: '5m',
      retry: { attempts: 1, backoff: 'fixed', base: '200ms', max: '1s' },
      batch: { size: 7 },
      tolerate: { count: 3, percent: 1.5 },
      onEmpty: 'fail',
    });
    expect(manifest).toMatchObject({
      description: 'd',
      schedule: { cron: ['0 3 * * *'], timeZone: 'Asia/Kolkata', overlap: 'bufferOne', catchUp: { mode: 'all', window: 7_200_000 } },
      after: [
        { job: 'other', on: 'acceptable' },
        { job: 'third', on: 'failure' },
      ],
      params: { type: 'object' },
      concurrency: 2,
      timeout: 300_000,
      retry: { attempts: 1, backoff: 'fixed', base: 200, max: 1_000 },
      batch: { size: 7 },
      run: { tolerate: { count: 3, percent: 1.5 }, onEmpty: 'fail' },
    });
    expect(define('s', { schedule: { cron: ['* * * * *'], catchUp: 'none' } }).manifest.schedule).toEqual({
      cron: ['* * * * *'],
      timeZone: 'UTC',
      overlap: 'skip',
      catchUp: { mode: 'none', window: 86_400_000 },
    });
  });

  test('the revision changes with the manifest and with nothing else', () => {
    expect(define('a', { timeout: 1000, concurrency: 2 }).manifest.revision).toBe(
      define('a', { concurrency: 2, timeout: '1s' }).manifest.revision,
    );
    expect(define('a', { timeout: 1000 }).manifest.revision).not.toBe(define('a').manifest.revision);
  });

  test.each<[string, string, unknown, string]>([
    ['an invalid name', 'Big Name', {}, 'MR1001 .*"Big Name"'],
    ['an invalid cron expression', 'a', { schedule: { cron: '61 * * * *' } }, 'MR1002 .*61'],
    ['an invalid time zone', 'a', { schedule: { cron: '* * * * *', timeZone: 'Mars/Base' } }, 'MR1003 .*Mars/Base'],
    ['an empty list of crons', 'a', { schedule: { cron: [] } }, 'MR1004 .*"schedule.cron".*\\[\\]'],
    ['an unknown option', 'a', { rateLimit: '200/s' }, 'MR1004 .*unknown option "rateLimit"'],
    ['an unknown option of batch', 'a', { batch: { linger: '200ms' } }, 'MR1004 .*unknown option "batch.linger"'],
    ['an unknown option of after', 'a', { after: [{ job: 'b', align: 'sameTick' }] }, 'MR1004 .*"after\\[0\\].align"'],
    ['no duration', 'a', { timeout: 'soon' }, 'MR1004 .*"timeout".*"soon"'],
    ['a timeout that the broker would not wait for', 'a', { timeout: '11m' }, 'MR1004 .*"timeout".*10m'],
    ['no timeout at all', 'a', { timeout: 0 }, 'MR1004 .*"timeout".*1 ms'],
    ['no duration inside', 'a', { retry: { base: -1 } }, 'MR1004 .*"retry.base".*-1'],
    ['no concurrency at all', 'a', { concurrency: 0 }, 'MR1004 .*"concurrency".*0'],
    ['more than everything', 'a', { tolerate: { percent: 101 } }, 'MR1004 .*"tolerate.percent".*101'],
    ['an unknown rule', 'a', { schedule: { cron: '* * * * *', overlap: 'never' } }, 'MR1004 .*"schedule.overlap".*"never"'],
    ['a schema that is none', 'a', { params: 7 }, 'MR1004 .*"params".*7'],
    ['options that are none', 'a', [], 'MR1004 .*must be an object'],
  ])('refuses %s, naming the place and the value', (_, name, options, expected) => {
    expect(refusal(() => define(name, options))).toMatch(new RegExp(expected));
  });

  test('refuses a missing key, process or sink when the compiler did not', () => {
    const untyped = defineJob('a') as { items(...args: unknown[]): never };
    expect(refusal(() => untyped.items(() => []))).toMatch(/MR1004 .*items key/);
    expect(
      refusal(() =>
        defineJob('a')
          .items(() => [1], { key: (i) => i })
          .process((i) => i)
          .commit({} as never),
      ),
    ).toMatch(/MR1004 .*sink/);
  });

  test('a job is recognised, and other exports are not', () => {
    expect(isJob(define('a'))).toBe(true);
    for (const other of [undefined, null, {}, { name: 'a', manifest: {} }, () => {}, defineJob('a')]) expect(isJob(other)).toBe(false);
  });
});

describe('parameters', () => {
  const typed = define('a', { params: Type.Object({ limit: Type.Number({ default: 5 }), name: Type.Optional(Type.String()) }) });

  test('defaults are filled in and text from a command line becomes what the schema wants', () => {
    expect(typed.parseParams(undefined)).toEqual({ limit: 5 });
    expect(typed.parseParams({ limit: '7', name: '7' })).toEqual({ limit: 7, name: '7' });
  });

  test('values that do not match are refused with their place', () => {
    expect(refusal(() => typed.parseParams({ limit: 'many' }))).toMatch(/^MR1013 .*\/limit/);
    expect(refusal(() => typed.parseParams([]))).toMatch(/^MR1013/);
  });

  test('a job that declares none takes none', () => {
    expect(define('a').parseParams({})).toEqual({});
    expect(refusal(() => define('a').parseParams({ limit: 1 }))).toMatch(/^MR1013 .*"limit"/);
  });

  test('any Standard Schema works, and its result must survive JSON', () => {
    const schema = (validate: (value: never) => unknown) => ({ '~standard': { version: 1, vendor: 'test', validate } });
    expect(define('a', { params: schema((value) => ({ value: { seen: value } })) }).parseParams({ x: 1 })).toEqual({ seen: { x: 1 } });
    expect(
      refusal(() =>
        define('a', { params: schema(() => ({ issues: [{ message: 'too small', path: ['deep', { key: 'x' }] }] })) }).parseParams({}),
      ),
    ).toMatch(/MR1013 .*\/deep\/x too small/);
    expect(refusal(() => define('a', { params: schema(() => ({ value: { at: new Date(0) } })) }).parseParams({}))).toMatch(/MR1013 .*Date/);
  });
});

describe('checkJobs', () => {
  const after = (name: string, ...causes: string[]) => define(name, { after: causes.map((job) => ({ job })) });

  test('jobs that fit together are returned by name', () => {
    expect([...checkJobs([after('c', 'a', 'b'), after('b', 'a'), after('a')]).keys()]).toEqual(['c', 'b', 'a']);
  });

  test('one name twice is refused, one job twice is not', () => {
    const a = after('a');
    expect(checkJobs([a, a]).size).toBe(1);
    expect(refusal(() => checkJobs([a, after('a')]))).toMatch(/^MR1009 .*"a"/);
  });

  test('an unknown cause is refused', () => expect(refusal(() => checkJobs([after('a', 'ghost')]))).toMatch(/^MR1011 .*"ghost"/));

  test('a circle is named in its order', () => {
    expect(refusal(() => checkJobs([after('start', 'a'), after('a', 'b'), after('b', 'c'), after('c', 'a')]))).toMatch(
      /^MR1010 .*: "a" runs after "b" runs after "c" runs after "a"$/,
    );
    expect(refusal(() => checkJobs([after('a', 'a')]))).toMatch(/^MR1010 .*"a" runs after "a"/);
  });
});

describe('postgres and columns', () => {
  test('columns are arrays in the order of the names or of the first effect', () => {
    const effects = [
      { id: 1, tags: ['x'], note: null },
      { id: 2, tags: [], note: 'n' },
    ];
    expect(columns(effects)).toEqual([
      [1, 2],
      ['["x"]', '[]'],
      [null, 'n'],
    ]);
    expect(columns(effects, 'note', 'id')).toEqual([
      [null, 'n'],
      [1, 2],
    ]);
    expect(columns([])).toEqual([]);
  });

  test('a pool, options or nothing may stand before the function', () => {
    const pool = { connect: () => Promise.reject(new Error('unused')) };
    const write = () => {};
    expect(postgres(write)).toEqual({ kind: 'postgres', name: 'postgres', pool: undefined, setup: undefined, write });
    expect(postgres(pool, write).pool).toBe(pool);
    const step = defineJob('away')
      .items(() => [1], { key: (item) => item })
      .process((item) => item);
    expect([step.commit(postgres(pool, write)), step.commit(postgres(write))].map((job) => job.manifest.inbox)).toEqual([
      'elsewhere',
      'here',
    ]);
    expect(postgres({ setup: 'create table', name: 'n', pool }, write)).toEqual({
      kind: 'postgres',
      name: 'n',
      pool,
      setup: 'create table',
      write,
    });
    expect(refusal(() => postgres({ migrate: 'x' } as never, write))).toMatch(/MR1004 .*"migrate"/);
  });
});
