import { defineJob } from 'millrace';

interface Item {
  readonly n: number;
  readonly does: string;
}

const grip: unknown[] = [];

/** Does to its process what the item says. */
function obey({ does }: Item): unknown {
  switch (does) {
    case 'exit':
      return process.exit(3);
    case 'reject':
      void Promise.reject(new Error('nobody waits for this'));
      return new Promise(() => undefined);
    case 'eat':
      for (;;) grip.push(new Array(100_000).fill(grip.length));
    case 'loop':
      for (;;);
    case 'wait':
      return new Promise((resolve) => setTimeout(resolve, 100));
    case 'hang':
      return new Promise(() => undefined);
    default:
      return undefined;
  }
}

const define = (name: string, concurrency: number) =>
  defineJob(name, { concurrency, timeout: '1s', retry: { attempts: 1 } })
    .items(() => [] as Item[], { key: (item) => item.n })
    .process((item) => {
      const value = obey(item);
      const effect = { n: item.n };
      return value instanceof Promise ? value.then(() => effect) : effect;
    })
    .commit(() => undefined);

export const single = define('single', 1);
export const many = define('many', 8);
