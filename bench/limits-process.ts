// One limit in a process of its own.
import { connectPostgres, openPglite } from '@millrace/postgres';
import { connect } from 'amqplib';
import { CREATE_TABLE, chunks, digest, item, itemsOf, TABLE } from './workload.ts';

const limits: Record<string, () => Promise<(items: number) => Promise<void>>> = {
  copy: () => copies(1, false),
  'copy-inbox': () => copies(1, true),
  'copy-inbox-2': () => copies(2, true),

  async function() {
    const payloads = Array.from({ length: 10_000 }, (_, id) => item(id).payload);
    return async (items) => {
      for (let i = 0; i < items; i++) digest(payloads[i % payloads.length] as string);
    };
  },

  /** Publishes with confirms from one connection and consumes with acknowledgements on another, a classic queue between. */
  async rabbit() {
    const url = process.env['RABBIT'] ?? '';
    const [sending, receiving] = await Promise.all([connect(url), connect(url)]);
    const [out, into] = await Promise.all([sending.createConfirmChannel(), receiving.createChannel()]);
    const { queue } = await out.assertQueue('limit', { durable: true });
    await into.prefetch(8);
    let received = 0;
    let look = () => {};
    await into.consume(queue, (message) => {
      if (message === null) return;
      received += JSON.parse(message.content.toString()).length;
      into.ack(message);
      look();
    });
    return async (items) => {
      received = 0;
      const all = new Promise<void>((resolve) => {
        look = () => received >= items && resolve();
      });
      for (const [from, to] of chunks(items)) {
        out.sendToQueue(queue, Buffer.from(JSON.stringify(itemsOf(from, to))), { persistent: false });
        if ((from / 500) % 16 === 15) await out.waitForConfirms();
      }
      await out.waitForConfirms();
      await all;
    };
  },

  async pglite() {
    const db = await openPglite({ directory: process.env['PGLITE'] ?? `${process.env['TMPDIR'] ?? '/tmp'}/millrace-limit-${process.pid}` });
    await db.query(CREATE_TABLE);
    return async (items) => {
      await db.query(`truncate ${TABLE}`);
      for (const rows of batches(items))
        await db.transaction((tx) =>
          tx.copy(
            TABLE,
            ['id', 'digest'],
            rows.map((row) => [row.id, row.digest]),
          ),
        );
    };
  },
};

/** Rows whose making costs next to nothing. */
function* batches(items: number): Generator<{ readonly id: number; readonly digest: string }[]> {
  const text = digest('');
  for (const [from, to] of chunks(items)) yield Array.from({ length: to - from }, (_, i) => ({ id: from + i, digest: text }));
}

/** In the fewest round trips there can be: one per transaction. */
async function copies(connections: number, inbox: boolean): Promise<(items: number) => Promise<void>> {
  const db = await connectPostgres({ url: process.env['POSTGRES'] ?? '', max: connections });
  await db.query(
    'create table if not exists limit_inbox (run text, generation integer, seq integer, outcomes text, at timestamptz default now(), primary key (run, generation, seq))',
  );
  await db.query('truncate limit_inbox');
  const statement = inbox ? 'insert into limit_inbox values ($1, 0, $2, $3) returning at' : 'select $1::text, $2::integer, $3::text';
  let runs = 0;
  return async (items) => {
    const name = `limit@${runs++}`;
    const work = batches(items);
    let seq = 0;
    const copy = async () => {
      for (const rows of work) await db.queryAndCopy(statement, [name, seq++, '500a'], TABLE, ['id', 'digest'], rows);
    };
    await Promise.all(Array.from({ length: connections }, copy));
  };
}

const run = await limits[process.argv[2] ?? '']?.();
if (!run) throw new Error(`no limit is called "${process.argv[2]}"`);
process.on('message', async ({ items }: { items: number }) => {
  await run(items);
  process.send?.({ kind: 'done' });
});
process.send?.({ kind: 'ready' });
