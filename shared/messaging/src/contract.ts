import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { done, type Envelope, PARKED_QUEUE, park, retry } from '@millrace/core';
import { REASON_HEADER } from './parking.ts';
import type { Delivery, EventBroker, Handler, SubscribeOptions, Subscription, WorkBroker } from './ports.ts';

/** What a broker can do; the suite asks for exactly that. */
export interface Features {
  readonly queues: boolean;
  readonly streams: boolean;
  /** Deliveries are counted; else a later one is only told from the first. */
  readonly counts: boolean;
  /** The server can be restarted under its clients. */
  readonly restart: boolean;
}

export interface Rig {
  readonly broker: WorkBroker | EventBroker;
  restart?(): Promise<void>;
  /** Loses everything the server held. */
  wipe?(): Promise<void>;
  close(): Promise<void>;
}

/** Longest wait for something that must happen, in ms. */
const PATIENCE = 25_000;
const RESTART_PATIENCE = 90_000;

export function messagingContract(name: string, features: Features, open: () => Promise<Rig>): void {
  describe(`${name} keeps the messaging contract`, () => {
    let rig: Rig;
    let sources = 0;
    const subscriptions: Subscription[] = [];

    beforeAll(async () => {
      rig = await open();
    }, 120_000);
    afterAll(async () => {
      await Promise.all(subscriptions.map((subscription) => subscription.drain()));
      await rig?.close();
    }, 60_000);

    /** A queue or stream subject that no other test uses. */
    async function fresh(): Promise<string> {
      const job = `job-${process.pid}-${++sources}`;
      if (!features.queues) return `millrace.ticks.${job}`;
      const queue = `millrace.chunks.${job}`;
      await (rig.broker as WorkBroker).ensure(queue, nothing);
      return queue;
    }
    const subscribe = async (source: string, handler: Handler, options: Partial<SubscribeOptions> = {}) => {
      const subscription = await rig.broker.subscribe(source, { durable: 'reader', ...options }, handler);
      subscriptions.push(subscription);
      return subscription;
    };
    const publish = (source: string, ids: readonly string[]) => rig.broker.publish(ids.map((id) => envelope(source, id)));

    test('a published message arrives as it was sent', async () => {
      const source = await fresh();
      const seen: Delivery[] = [];
      await subscribe(source, collect(seen));
      await rig.broker.publish([
        {
          ...envelope(source, 'whole'),
          headers: { traceparent: '00-ab-cd-01', 'millrace-kind': 'tick' },
        },
      ]);
      await until(() => seen.length === 1);
      expect(seen[0]).toMatchObject({
        id: 'whole',
        subject: source,
        headers: { traceparent: '00-ab-cd-01', 'millrace-kind': 'tick' },
        deliveries: 1,
      });
      expect(text(seen[0])).toBe('"whole"');
    });

    test('messages published before anybody subscribed arrive, each of many', async () => {
      const source = await fresh();
      const ids = numbered(source, 1_000);
      await publish(source, ids);
      const seen: Delivery[] = [];
      await subscribe(source, collect(seen), { prefetch: 100, batch: 25 });
      await until(() => seen.length >= ids.length);
      expect(distinct(seen)).toEqual([...ids].sort());
    });

    test('malformed bytes are handed over untouched', async () => {
      const source = await fresh();
      const body = Uint8Array.from([0, 255, 254, 123, 10, 13, 0, 200]);
      const seen: Delivery[] = [];
      await subscribe(source, collect(seen));
      await rig.broker.publish([
        { id: 'rubbish', subject: source, headers: {}, body },
        { id: 'empty', subject: source, headers: {}, body: new Uint8Array() },
      ]);
      await until(() => seen.length === 2);
      expect([...(seen.find(({ id }) => id === 'rubbish')?.body ?? [])]).toEqual([...body]);
      expect(seen.find(({ id }) => id === 'empty')?.body.byteLength).toBe(0);
    });

    test('the memory of a message may be used again once it is published', async () => {
      const source = await fresh();
      const message = { ...envelope(source, 'used again'), body: Buffer.from('before') };
      await rig.broker.publish([message]);
      message.body.write('after!');
      const seen: Delivery[] = [];
      await subscribe(source, collect(seen));
      await until(() => seen.length === 1);
      expect(text(seen[0])).toBe('before');
    });

    test('a handler that throws gets its deliveries again, and the count tells that they are not the first', async () => {
      const source = await fresh();
      const counts: number[] = [];
      await subscribe(source, async (deliveries) => {
        counts.push(...deliveries.map((delivery) => delivery.deliveries));
        if (counts.length < 3) throw new Error('not today');
        return deliveries.map(() => done);
      });
      await publish(source, ['stubborn']);
      await until(() => counts.length === 3);
      expect(counts).toEqual(features.counts ? [1, 2, 3] : [1, 2, 2]);
    });

    test('retry brings one delivery of a batch back, not before its pause is over', async () => {
      const source = await fresh();
      const at = new Map<string, number[]>();
      await publish(source, ['a', 'b', 'c']);
      await subscribe(
        source,
        async (deliveries) =>
          deliveries.map(({ id }) => {
            const times = at.get(id) ?? [];
            at.set(id, [...times, Date.now()]);
            return id === 'b' && times.length === 0 ? retry(400, 'later') : done;
          }),
        { batch: 10 },
      );
      await until(() => at.get('b')?.length === 2);
      const [first = 0, second = 0] = at.get('b') ?? [];
      expect(second - first).toBeGreaterThanOrEqual(390);
      expect(at.get('a')).toHaveLength(1);
      expect(at.get('c')).toHaveLength(1);
    });

    test('what lingers is handed over when it is enough', async () => {
      const source = await fresh();
      const groups: string[][] = [];
      const take: Handler = async (deliveries) => {
        groups.push(deliveries.map(({ id }) => id).sort());
        return deliveries.map(() => done);
      };
      await subscribe(source, take, { batch: 10, linger: 10 * PATIENCE, enough: (waiting) => waiting.length === 2 });
      const [first = '', ...others] = numbered(source, 3);
      await publish(source, [first]);
      await until(() => groups.length === 1);
      for (const id of others) await publish(source, [id]);
      await until(() => groups.length === 2);
      expect(groups).toEqual([[first], others]);
    });

    test('park sets a message aside with its reason and does not deliver it again', async () => {
      const source = await fresh();
      let handled = 0;
      await subscribe(source, async (deliveries) => {
        handled += deliveries.length;
        return deliveries.map(({ id }) => (id === 'bad' ? park('MR4001 chunk body is not JSON') : done));
      });
      const parked: Delivery[] = [];
      await subscribe(features.queues ? PARKED_QUEUE : `${PARKED_QUEUE}.>`, collect(parked), { durable: `parked-${sources}` });
      await publish(source, ['good', 'bad']);
      await until(() => parked.some(({ id }) => id === 'bad'));
      const bad = parked.find(({ id }) => id === 'bad');
      expect(bad?.headers[REASON_HEADER]).toBe('MR4001 chunk body is not JSON');
      expect(text(bad)).toBe('"bad"');
      expect(handled).toBe(2);
    });

    test('no more deliveries than the prefetch are unsettled at once', async () => {
      const source = await fresh();
      await publish(source, numbered(source, 40));
      let running = 0;
      let most = 0;
      let settled = 0;
      await subscribe(
        source,
        async (deliveries) => {
          running += deliveries.length;
          most = Math.max(most, running);
          await delay(5);
          running -= deliveries.length;
          settled += deliveries.length;
          return deliveries.map(() => done);
        },
        { prefetch: 4 },
      );
      await until(() => settled >= 40);
      expect(most).toBeLessThanOrEqual(4);
      expect(most).toBeGreaterThan(1);
    });

    test('readers of one name share the messages', async () => {
      const source = await fresh();
      const seen: [Delivery[], Delivery[]] = [[], []];
      const slowly =
        (into: Delivery[]): Handler =>
        async (deliveries) => {
          into.push(...deliveries);
          await delay(10);
          return deliveries.map(() => done);
        };
      await subscribe(source, slowly(seen[0]), { prefetch: 2 });
      await subscribe(source, slowly(seen[1]), { prefetch: 2 });
      await publish(source, numbered(source, 40));
      await until(() => seen[0].length + seen[1].length >= 40);
      expect(distinct(seen.flat())).toEqual(numbered(source, 40).sort());
      expect(Math.min(seen[0].length, seen[1].length)).toBeGreaterThan(0);
    });

    test('drain waits for running handlers, settles them and gives the rest back', async () => {
      const source = await fresh();
      await publish(source, numbered(source, 20));
      const first: Delivery[] = [];
      let release: () => void = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const subscription = await subscribe(
        source,
        async (deliveries) => {
          first.push(...deliveries);
          await held;
          return deliveries.map(() => done);
        },
        { prefetch: 6, batch: 2 },
      );
      await until(() => first.length > 0);
      let drained = false;
      const draining = subscription.drain().then(() => {
        drained = true;
      });
      await delay(50);
      expect(drained).toBe(false);
      release();
      await draining;
      const handled = first.length;
      const second: Delivery[] = [];
      await subscribe(source, collect(second));
      await until(() => first.length + second.length >= 20);
      expect(first).toHaveLength(handled);
      const ids = new Set(first.map(({ id }) => id));
      expect(second.filter(({ id }) => ids.has(id))).toEqual([]);
      expect(distinct([...first, ...second])).toEqual(numbered(source, 20).sort());
    });

    test('a message with nowhere to go is refused with MR3013, its neighbours need not be', async () => {
      const source = await fresh();
      const nowhere = features.queues ? `${source}-missing` : 'elsewhere.millrace';
      await expect(rig.broker.publish([envelope(nowhere, 'lost')])).rejects.toMatchObject({ code: 'MR3013' });
      await publish(source, ['kept']);
    });

    test('a message sent again with its id arrives at least once', async () => {
      const source = await fresh();
      const seen: Delivery[] = [];
      await subscribe(source, collect(seen));
      await publish(source, ['twice']);
      await publish(source, ['twice', 'end']);
      await until(() => seen.some(({ id }) => id === 'end'));
      expect(distinct(seen)).toEqual(['end', 'twice']);
    });

    test('publishing stops with MR3013 when its signal aborts', async () => {
      const source = await fresh();
      await expect(
        rig.broker.publish([envelope(source, 'x')], {
          signal: AbortSignal.abort(new Error('stop')),
        }),
      ).rejects.toMatchObject({ code: 'MR3013' });
    });

    if (features.queues) {
      const queues = () => rig.broker as WorkBroker;

      test('ensure tells what may be lost until that has been dealt with, inspect counts what is ready', async () => {
        const queue = `millrace.chunks.counted-${process.pid}`;
        let told = 0;
        const tell = async () => {
          told++;
          if (told === 1) throw new Error('not now');
        };
        expect(await queues().inspect(queue)).toBeUndefined();
        await expect(queues().ensure(queue, tell)).rejects.toThrow('not now');
        expect(await queues().inspect(queue)).toBeUndefined();
        await queues().ensure(queue, tell);
        await queues().ensure(queue, tell);
        expect(told).toBe(2);
        await publish(queue, numbered(queue, 3));
        await until(async () => (await queues().inspect(queue))?.ready === 3);
        expect(await queues().inspect(queue)).toEqual({
          ready: 3,
          consumers: 0,
        });
      });

      test('a subscription waits for a queue that does not exist yet', async () => {
        const queue = `millrace.chunks.late-${process.pid}`;
        const seen: Delivery[] = [];
        await subscribe(queue, collect(seen));
        await delay(50);
        await queues().ensure(queue, nothing);
        await publish(queue, ['worth the wait']);
        await until(() => seen.length === 1);
      });
    }

    if (features.streams) {
      test('each durable name sees every message, also those before its first subscription', async () => {
        const source = await fresh();
        const seen: [Delivery[], Delivery[]] = [[], []];
        await subscribe(source, collect(seen[0]), { durable: 'one' });
        await publish(source, numbered(source, 10));
        await until(() => seen[0].length >= 10);
        await subscribe(source, collect(seen[1]), { durable: 'two' });
        await until(() => seen[1].length >= 10);
        expect(distinct(seen[1])).toEqual(numbered(source, 10).sort());
      });

      test('a durable name goes on where it stopped', async () => {
        const source = await fresh();
        const seen: Delivery[] = [];
        const subscription = await subscribe(source, collect(seen));
        await publish(source, ['first']);
        await until(() => seen.length === 1);
        await subscription.drain();
        await publish(source, ['second']);
        await subscribe(source, collect(seen));
        await until(() => seen.length >= 2);
        expect(seen.map(({ id }) => id)).toEqual(['first', 'second']);
      });

      test('one durable name with two filters of a stream reads both', async () => {
        const [left, right] = [await fresh(), await fresh()];
        const seen: Delivery[] = [];
        await subscribe(`${left}.>`, collect(seen));
        await subscribe(`${right}.*`, collect(seen));
        await rig.broker.publish([envelope(`${left}.a.b`, 'l'), envelope(`${right}.c`, 'r')]);
        await until(() => seen.length >= 2);
        expect(distinct(seen)).toEqual(['l', 'r']);
      });

      test('a subject that holds a message refuses further ones with `once`, as if published', async () => {
        const source = await fresh();
        for (const id of ['winner', 'late', 'later'])
          await rig.broker.publish([envelope(`${source}.1`, id)], {
            once: true,
          });
        await rig.broker.publish([envelope(`${source}.2`, 'other')], {
          once: true,
        });
        const seen: Delivery[] = [];
        await subscribe(`${source}.>`, collect(seen));
        await until(() => seen.length >= 2);
        expect(distinct(seen)).toEqual(['other', 'winner']);
      });

      test('messages published together are delivered, retried and parked each for itself, at least', async () => {
        const source = await fresh();
        const seen: string[] = [];
        await rig.broker.publish(
          ['together-a', 'together-b', 'together-c', 'together-d'].map((id) => envelope(source, id)),
          { together: true },
        );
        await rig.broker.publish([envelope(source, 'together-e')], { together: true });
        const late = (id: string) => seen.filter((other) => other === id).length < 2;
        await subscribe(
          source,
          async (deliveries) =>
            deliveries.map(({ id, body }) => {
              expect(Buffer.from(body).toString()).toBe(JSON.stringify(id));
              seen.push(id);
              return id === 'together-b' && late(id) ? retry(200, 'later') : id === 'together-c' ? park('MR4001 no') : done;
            }),
          { batch: 3 },
        );
        const parked: Delivery[] = [];
        await subscribe(`${PARKED_QUEUE}.>`, collect(parked), { durable: `parked-${sources}` });
        await until(() => !late('together-b') && parked.some(({ id }) => id === 'together-c'));
        expect([...new Set(seen)].sort()).toEqual(['a', 'b', 'c', 'd', 'e'].map((name) => `together-${name}`));
        await delay(500);
        expect(seen.filter((id) => id === 'together-b')).toHaveLength(2);
      });

      test('a bucket keeps the last value of each key', async () => {
        const bucket = (rig.broker as EventBroker).bucket(`contract_${process.pid}`);
        expect(await bucket.entries()).toEqual(new Map());
        await bucket.put('a', '1');
        await bucket.put('a', '2');
        await bucket.put('b', 'x');
        await bucket.delete('b');
        expect(await bucket.entries()).toEqual(new Map([['a', '2']]));
      });
    }

    if (features.restart) {
      test('a restart of the broker in mid-flow loses nothing, or says so', async () => {
        const source = await fresh();
        const ids = numbered(source, 600);
        const seen: Delivery[] = [];
        const unseen = () => ids.filter((id) => !seen.some((delivery) => delivery.id === id));
        await subscribe(source, collect(seen), { prefetch: 20, batch: 5 });
        const publishing = (async () => {
          for (let at = 0; at < ids.length; at += 20) {
            await publish(source, ids.slice(at, at + 20));
            await delay(5);
          }
        })();
        await until(() => seen.length > 40);
        await rig.restart?.();
        await publishing;
        await until(async () => {
          if (features.queues) await (rig.broker as WorkBroker).ensure(source, () => publish(source, unseen())).catch(() => {});
          return unseen().length === 0;
        }, RESTART_PATIENCE);
        await until(() => rig.broker.connected());
      }, 200_000);

      test('after the broker lost everything, flow resumes', async () => {
        const source = await fresh();
        const seen: Delivery[] = [];
        await subscribe(source, collect(seen));
        await publish(source, ['before']);
        await until(() => seen.length === 1);
        await rig.wipe?.();
        await until(async () => {
          if (features.queues) await (rig.broker as WorkBroker).ensure(source, nothing).catch(() => {});
          return publish(source, ['after']).then(
            () => true,
            () => false,
          );
        }, RESTART_PATIENCE);
        await until(() => seen.some(({ id }) => id === 'after'), RESTART_PATIENCE);
      }, 200_000);
    }
  });
}

/** For a queue that has held nothing. */
const nothing = async (): Promise<void> => {};

function envelope(subject: string, id: string): Envelope {
  return {
    id,
    subject,
    headers: {},
    body: new TextEncoder().encode(JSON.stringify(id)),
  };
}

function collect(into: Delivery[]): Handler {
  return async (deliveries) => {
    into.push(...deliveries);
    return deliveries.map(() => done);
  };
}

/** Ids are unique: JetStream takes a second message with the same id for the first one sent again. */
function numbered(source: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${source}/${index}`);
}

function distinct(deliveries: readonly Delivery[]): string[] {
  return [...new Set(deliveries.map(({ id }) => id))].sort();
}

function text(delivery: Delivery | undefined): string | undefined {
  return delivery && Buffer.from(delivery.body).toString('utf8');
}

async function until(condition: () => boolean | Promise<boolean>, patience = PATIENCE): Promise<void> {
  for (const deadline = Date.now() + patience; !(await condition()); await delay(10)) {
    if (Date.now() > deadline) throw new Error(`still not so after ${patience} ms: ${condition}`);
  }
}
