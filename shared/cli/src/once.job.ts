// A job for embedded.int.test.ts whose latest tick does not change while it runs.
import { defineJob } from 'millrace';

export const yearly = defineJob('yearly', { schedule: { cron: '0 0 1 1 *', catchUp: { window: '400d' } } })
  .items(() => [{ id: 1 }], { key: (item) => item.id })
  .process((item) => item)
  .commit(() => {});
