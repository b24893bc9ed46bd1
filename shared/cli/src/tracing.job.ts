// Jobs for tracing.int.test.ts; once.int.test.ts takes the schedule of `ticking`.
import { defineJob, reject, TransientError } from 'millrace';

/** One item is fine, one is bad, one needs a second try. */
export const ticking = defineJob('ticking', {
  schedule: { cron: '*/3 * * * * *' },
  retry: { attempts: 2, base: '50ms' },
  tolerate: { percent: 100 },
})
  .items(() => ['good', 'bad', 'late'].map((id) => ({ id })), { key: (item) => item.id })
  .process(({ id }, { attempt }) => {
    if (id === 'bad') return reject('never any good');
    if (id === 'late' && attempt === 1) throw new TransientError('not yet');
    return { id };
  })
  .commit(() => {});

export const afterTicking = defineJob('after-ticking', { after: [{ job: 'ticking', on: 'closed' }] })
  .items(() => [{ id: 1 }], { key: (item) => item.id })
  .process((item) => item)
  .commit(() => {});

export const bulk = defineJob('bulk')
  .items(
    function* () {
      for (let id = 0; id < 138_398; id++) yield { id, text: `item ${id}` };
    },
    { key: (item) => item.id },
  )
  .process((item) => (item.id === 70_000 ? reject('the one') : { id: item.id }))
  .commit(() => {});
