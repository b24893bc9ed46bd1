import { defineJob, postgres } from 'millrace';
import Type from 'typebox';
import { CREATE_TABLE, digest, type Item, item, TABLE } from '../../workload.ts';

/** The benchmark's job. `failing` in 10,000 items are rejected, to see what failures cost. */
export const checksum = defineJob('checksum', {
  description: 'SHA-1 of each payload',
  params: Type.Object({ items: Type.Integer({ minimum: 0 }), failing: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000 })) }),
  tolerate: { percent: 100 },
})
  .items(
    function* ({ params }): Generator<Item & { bad?: true }> {
      const failing = params.failing ?? 0;
      for (let id = 0; id < params.items; id++) yield (id * 7_919) % 10_000 < failing ? { ...item(id), bad: true } : item(id);
    },
    { key: ({ id }) => id },
  )
  .process(({ id, payload, bad }, { reject }) => (bad ? reject('asked to fail') : { id, digest: digest(payload) }))
  .commit(postgres.insert(TABLE, ['id', 'digest'], { setup: CREATE_TABLE }));
