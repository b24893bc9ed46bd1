import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redrive, Trigger } from '@millrace/core';
import { type Fixture, openFixture } from './console-fixture.ts';

describe('console API', () => {
  let f: Fixture;
  beforeAll(async () => {
    f = await openFixture();
    await f.addRun({ runId: 'refresh@manual:good', counts: { applied: 7, skipped: 1 }, openedAt: f.now.at - 60_000 });
    await f.addRun({
      runId: 'refresh@manual:bad',
      counts: { applied: 5, failed: 2, rejected: 1 },
      verdict: 'failed',
      openedAt: f.now.at - 50_000,
    });
    await f.addRun({ runId: 'refresh@manual:open', state: 'running', counts: { applied: 5 }, planned: 10, openedAt: f.now.at - 10_000 });
    await f.db.query(
      `insert into audit.failures select 'refresh@manual:bad', 0, g, 0, 1, 'k' || g, case when g < 2 then 'fp-a' else 'fp-b' end, 'transient', 'Boom', 'boom <b>', true, now() from generate_series(0, 2) g`,
    );
  }, 60_000);
  afterAll(() => f.close());
  const get = (url: string) => f.app.inject({ url });
  const post = (url: string, payload?: object, headers = {}) =>
    f.app.inject({ method: 'POST', url, headers, ...(payload ? { payload } : {}) });

  it('shows a run with its equation, rate and failure groups', async () => {
    const run = (await get('/v1/runs/refresh@manual:bad')).json();
    expect(run).toMatchObject({
      runId: 'refresh@manual:bad',
      job: 'refresh',
      tick: 'manual:bad',
      generation: 0,
      state: 'closed',
      verdict: 'failed',
      durationMs: 4000,
      itemsPerSecond: 2,
      counts: { planned: 8, applied: 5, failed: 2, rejected: 1, skipped: 0 },
      progress: { done: 8, planned: 8, fraction: 1 },
      failureGroups: [
        { fingerprint: 'fp-a', count: 2 },
        { fingerprint: 'fp-b', count: 1 },
      ],
    });
  });

  it('measures an open run up to now', async () => {
    expect((await get('/v1/runs/refresh@manual:open')).json()).toMatchObject({
      closedAt: null,
      verdict: null,
      durationMs: 10_000,
      progress: { fraction: 0.5 },
    });
  });

  it('pages through runs by the last one seen, newest first, without gaps', async () => {
    const seen: string[] = [];
    let after = '';
    for (;;) {
      const page = (await get(`/v1/runs?limit=1${after && `&after=${encodeURIComponent(after)}`}`)).json();
      seen.push(...page.runs.map((run: { runId: string }) => run.runId));
      if (page.next === null) break;
      after = page.next;
    }
    expect(seen).toEqual(['refresh@manual:open', 'refresh@manual:bad', 'refresh@manual:good']);
    expect((await get('/v1/runs?state=running')).json().runs).toHaveLength(1);
    expect((await get('/v1/runs?job=other')).json().runs).toHaveLength(0);
  });

  it('pages through failures of one group', async () => {
    const first = (await get('/v1/runs/refresh@manual:bad/failures?group=fp-a&limit=1')).json();
    expect(first.failures).toMatchObject([{ key: 'k0', message: 'boom <b>' }]);
    const second = (await get(`/v1/runs/refresh@manual:bad/failures?group=fp-a&limit=1&after=${first.next}`)).json();
    expect(second).toMatchObject({ failures: [{ key: 'k1' }], next: null });
  });

  it('publishes a trigger and names the run it makes', async () => {
    const reply = await post('/v1/jobs/refresh/runs', { key: 'k1', params: { a: 1 }, at: '2026-11-24T00:00:00Z', limit: 3 });
    expect(reply.statusCode).toBe(202);
    expect(reply.json()).toEqual({ runId: 'refresh@manual:k1', key: 'k1' });
    const sent = f.sent.at(-1);
    const read = Trigger.read(sent as NonNullable<typeof sent>);
    expect(read).toMatchObject({
      ok: true,
      message: { data: { job: 'refresh', key: 'k1', params: { a: 1 }, limit: 3, at: Date.parse('2026-11-24T00:00:00Z') } },
    });
  });

  it('takes the Idempotency-Key header, and makes a key of its own when there is none', async () => {
    expect((await post('/v1/jobs/refresh/runs', undefined, { 'idempotency-key': 'abc' })).json().runId).toBe('refresh@manual:abc');
    expect((await post('/v1/jobs/refresh/runs')).json().runId).toMatch(/^refresh@manual:20261124T002000-[0-9a-f]{8}$/);
  });

  it('redrives a closed run as its next generation, and tells how many items that takes', async () => {
    const reply = await post('/v1/runs/refresh@manual:bad/redrive', { group: 'fp-a' });
    expect([reply.statusCode, reply.json()]).toEqual([202, { runId: 'refresh@manual:bad', generation: 1, items: 2 }]);
    const sent = f.sent.at(-1);
    expect(Redrive.read(sent as NonNullable<typeof sent>)).toMatchObject({ ok: true, message: { data: { generation: 1, group: 'fp-a' } } });
    expect((await post('/v1/runs/refresh@manual:bad/redrive')).json().items).toBe(3);
    // The inbox that keeps effects from being applied twice may be gone.
    f.now.at += 29 * 86_400_000;
    const late = await post('/v1/runs/refresh@manual:bad/redrive');
    f.now.at -= 29 * 86_400_000;
    expect([late.statusCode, late.json().code]).toEqual([409, 'MR4004']);
  });

  it.each([
    ['an unknown job', 'POST', '/v1/jobs/none/runs', {}, 404, 'MR2004'],
    ['an unknown run', 'GET', '/v1/runs/none@x', undefined, 404, 'MR2005'],
    ['a redrive of an open run', 'POST', '/v1/runs/refresh@manual:open/redrive', {}, 409, 'MR2006'],
    ['a redrive of nothing', 'POST', '/v1/runs/refresh@manual:good/redrive', {}, 409, 'MR2007'],
    ['a redrive of an empty selection', 'POST', '/v1/runs/refresh@manual:bad/redrive', { group: 'none' }, 409, 'MR2007'],
    ['a key with a space', 'POST', '/v1/jobs/refresh/runs', { key: 'a b' }, 400, 'MR2010'],
    ['an unknown field', 'POST', '/v1/jobs/refresh/runs', { parms: {} }, 400, 'MR2008'],
    ['an instant without a zone', 'POST', '/v1/jobs/refresh/runs', { at: '2026-11-24' }, 400, 'MR2008'],
    ['a limit of text', 'GET', '/v1/runs?limit=many', undefined, 400, 'MR2008'],
    ['a cursor of another kind', 'GET', '/v1/runs/refresh@manual:bad/failures?after=x', undefined, 400, 'MR2008'],
  ])('answers %s with a problem document', async (_what, method, url, payload, status, code) => {
    const before = f.sent.length;
    const reply = method === 'GET' ? await get(url) : await post(url, payload);
    expect([reply.statusCode, reply.json().code, reply.json().status]).toEqual([status, code, status]);
    expect(reply.headers['content-type']).toContain('application/problem+json');
    expect(f.sent).toHaveLength(before);
  });

  it('refuses requests that another site sends through a browser, and foreign host names', async () => {
    expect((await post('/v1/jobs/refresh/runs', {}, { origin: 'https://evil.example' })).statusCode).toBe(403);
    expect((await f.app.inject({ url: '/v1/runs', headers: { host: 'evil.example' } })).statusCode).toBe(403);
    expect((await post('/v1/jobs/refresh/runs', { key: 'same' }, { origin: 'http://localhost:80', host: 'localhost:80' })).statusCode).toBe(
      202,
    );
  });

  it('lists jobs and their next ticks', async () => {
    expect((await get('/v1/jobs')).json().jobs).toMatchObject([{ name: 'refresh', schedule: { cron: ['*/15 * * * *'] } }]);
    expect((await get('/v1/jobs/refresh/ticks?n=2')).json().ticks).toEqual(['2026-11-24T00:30:00Z', '2026-11-24T00:45:00Z']);
  });

  it('describes itself as OpenAPI 3.1 with every public address', async () => {
    const document = (await get('/openapi.json')).json();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/v1/audit',
      '/v1/events',
      '/v1/jobs',
      '/v1/jobs/{job}/runs',
      '/v1/jobs/{job}/ticks',
      '/v1/runs',
      '/v1/runs/{id}',
      '/v1/runs/{id}/audit',
      '/v1/runs/{id}/failures',
      '/v1/runs/{id}/redrive',
    ]);
  });

  it('serves a page that needs no inline script, under a policy that allows none', async () => {
    const page = await get('/');
    expect(page.headers['content-security-policy']).toContain("script-src 'self'");
    expect(page.headers['content-security-policy']).not.toContain('unsafe-inline');
    expect(page.body).not.toMatch(/<script(?![^>]*src=)|\son\w+=|style=/);
    expect((await get('/page.js')).body).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write/);
  });

  it('is alive and ready', async () => {
    expect((await get('/livez')).statusCode).toBe(200);
    expect((await get('/readyz')).json()).toEqual({ status: 'ready', reasons: [] });
  });

  it('streams all runs first and then only those that changed', async () => {
    const address = await f.app.listen({ port: 0, host: '127.0.0.1' });
    const abort = new AbortController();
    const response = await fetch(`${address.replace('127.0.0.1', 'localhost')}/v1/events`, { signal: abort.signal }).catch(() =>
      fetch(`${address}/v1/events`, { signal: abort.signal, headers: { host: 'localhost' } }),
    );
    const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    const nextFrame = async () => {
      for (;;) {
        const frame = /event: runs\ndata: (.*)\n\n/.exec(text);
        if (frame) {
          text = text.slice(frame.index + frame[0].length);
          return JSON.parse(frame[1] as string) as { runId: string; counts: { applied: number } }[];
        }
        const { value, done } = await reader.read();
        if (done) throw new Error('the stream ended');
        text += value;
      }
    };
    expect((await nextFrame()).map((run) => run.runId)).toHaveLength(3);
    await f.db.query(`update audit.runs set applied = 6 where run_id = 'refresh@manual:open'`);
    expect(await nextFrame()).toMatchObject([{ runId: 'refresh@manual:open', counts: { applied: 6 } }]);
    abort.abort();
  });
});
