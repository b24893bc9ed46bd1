import { MillraceError } from '@millrace/core';
import type { Bucket } from '@millrace/messaging';
import type { SimProcess } from './process.ts';

/** A bucket of a broker over the network. `entries` gives what the broker holds by then: it may have lost it. */
export function bucketOf(process: SimProcess, entries: () => Map<string, string>): Bucket {
  const failure = () => new MillraceError('MR3005', 'simulated');
  return {
    put: (key, value) => process.call('bucket.put', () => void entries().set(key, value), failure, key),
    delete: (key) => process.call('bucket.delete', () => void entries().delete(key), failure, key),
    entries: () => process.call('bucket.entries', () => new Map(entries()), failure),
  };
}
