import { setTimeout as delay } from 'node:timers/promises';
import { defineJob, postgres } from 'millrace';
import Type from 'typebox';

const SETUP =
  'create table if not exists probes (run text, id integer, at double precision not null, pid integer not null, primary key (run, id))';
const params = Type.Object({ items: Type.Integer({ minimum: 0 }), wait: Type.Optional(Type.Integer({ minimum: 0 })) });

/** Notes when and by which process each item was worked on, after `wait` milliseconds of waiting for something. */
const probeJob = (name: string, concurrency: number) =>
  defineJob(name, { params, concurrency })
    .items(
      function* ({ params: { items } }) {
        for (let id = 0; id < items; id++) yield { id };
      },
      { key: ({ id }) => id },
    )
    .process(async ({ id }, { tick, params: { wait } }) => {
      const at = Date.now();
      if (wait) await delay(wait);
      return { run: tick.id, id, at, pid: process.pid };
    })
    .commit(postgres.insert('probes', ['run', 'id', 'at', 'pid'], { setup: SETUP }));

export const probe = probeJob('probe', 64);
export const slow = probeJob('slow', 1_000);
