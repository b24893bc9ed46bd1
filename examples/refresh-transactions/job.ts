import { columns, defineJob, PermanentError, postgres, TransientError } from 'millrace';
import { startProvider } from './provider.ts';

// `on conflict` makes it safe to repeat, as setup must be: what has been refreshed stays.
const SETUP = `create table if not exists transactions (id integer primary key, status text not null, refreshed_for timestamptz);
  insert into transactions (id, status) select id, 'pending' from generate_series(1, 2000) as id on conflict do nothing`;

const UPDATE = `update transactions t set status = e.status, refreshed_for = e.tick
  from unnest($1::integer[], $2::text[], $3::timestamptz[]) as e (id, status, tick) where t.id = e.id`;

const PAGE = 500;

let provider: Promise<string> | undefined;
function providerUrl(): Promise<string> {
  provider ??= process.env.PROVIDER_URL ? Promise.resolve(process.env.PROVIDER_URL) : startProvider().then(({ url }) => url);
  return provider;
}

export const refreshTransactions = defineJob('refresh-transactions', {
  description: 'The state of every pending transaction, from the payment provider',
  concurrency: 64,
  timeout: '5s',
  retry: { attempts: 5, base: '200ms', max: '10s' },
  tolerate: { percent: 1 },
})
  .items(
    async function* ({ query, cursor, checkpoint }) {
      for (let last = typeof cursor === 'number' ? cursor : 0; ; ) {
        const { rows } = await query<{ id: number }>(
          "select id from transactions where status = 'pending' and id > $1 order by id limit $2",
          [last, PAGE],
        );
        for (const { id } of rows) yield { id };
        last = rows.at(-1)?.id ?? last;
        if (rows.length < PAGE) return;
        yield checkpoint(last);
      }
    },
    { key: (transaction) => transaction.id },
  )
  .process(async ({ id }, { signal, reject, tick, itemId }) => {
    const response = await fetch(`${await providerUrl()}/transactions/${id}`, { signal, headers: { 'idempotency-key': itemId } });
    if (response.ok) {
      const { status } = (await response.json()) as { status: string };
      return { id, status, tick: tick.at.toISOString() };
    }
    // An unread body holds its connection.
    await response.body?.cancel();
    if (response.status === 404) return reject('unknown to the provider');
    const wait = Number(response.headers.get('retry-after'));
    if (response.status === 429) throw new TransientError('the provider asks to slow down', { retryAfter: wait * 1000 });
    if (response.status >= 500) throw new TransientError(`the provider answered ${response.status}`);
    throw new PermanentError(`the provider answered ${response.status}`);
  })
  .commit(postgres({ setup: SETUP }, (effects, tx) => tx.query(UPDATE, columns(effects, 'id', 'status', 'tick'))));
