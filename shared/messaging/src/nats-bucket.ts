import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, messageOf } from '@millrace/core';
import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from 'nats';
import type { Bucket } from './ports.ts';

const TRIES = 3;

/** A JetStream key-value bucket with one revision per key; made when it is missing. */
export class NatsBucket implements Bucket {
  readonly #nc: NatsConnection;
  readonly #name: string;
  readonly #replicas: number;
  #kv: Promise<KV> | undefined;

  constructor(nc: NatsConnection, name: string, replicas: number) {
    this.#nc = nc;
    this.#name = name;
    this.#replicas = replicas;
  }

  put(key: string, value: string): Promise<void> {
    return this.#try(async (kv) => void (await kv.put(key, value)));
  }

  delete(key: string): Promise<void> {
    return this.#try((kv) => kv.delete(key));
  }

  entries(): Promise<ReadonlyMap<string, string>> {
    return this.#try(async (kv) => {
      const entries = new Map<string, string>();
      for await (const key of await kv.keys()) {
        const entry = await kv.get(key);
        if (entry?.operation === 'PUT') entries.set(key, entry.string());
      }
      return entries;
    });
  }

  /** A wiped server has lost the bucket: the second try makes it again. */
  async #try<T>(action: (kv: KV) => Promise<T>): Promise<T> {
    for (let tried = 1; ; tried++) {
      try {
        this.#kv ??= new Kvm(this.#nc).create(this.#name, {
          history: 1,
          replicas: this.#replicas,
        });
        return await action(await this.#kv);
      } catch (error) {
        this.#kv = undefined;
        if (tried === TRIES) throw new MillraceError('MR3005', `bucket ${this.#name} (${messageOf(error)})`, { cause: error });
        await delay(250 * tried);
      }
    }
  }
}
