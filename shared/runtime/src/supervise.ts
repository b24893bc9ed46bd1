import type { Milliseconds, Time } from '@millrace/core';
import type { Logger, Service } from './platform.ts';

export interface Supervised {
  /** In the order of starting; stopped in reverse. */
  readonly services: readonly Service[];
  readonly time: Time;
  readonly log: Logger;
  /** How long running work may take to finish. */
  readonly grace: Milliseconds;
  /** `process`: its SIGTERM and SIGINT end the services. */
  readonly signals: SignalSource;
  /** Called for a second signal, with 1. */
  readonly exit: (code: number) => void;
  /** Called once everything has been started. */
  readonly started?: () => void;
}

export interface SignalSource {
  on(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown;
  off(signal: 'SIGTERM' | 'SIGINT', listener: () => void): unknown;
}

export interface Supervision {
  /** Reasons for not being ready, of all services. */
  ready(): readonly string[];
  /** As the first signal does. */
  end(): void;
  /** Resolves when everything has been stopped; false when something would not within its grace. Rejects with the error of a start that failed. */
  readonly ended: Promise<boolean>;
}

/** Beyond the grace, for a service to notice that it is over. */
const MARGIN: Milliseconds = 5_000;

/**
 *   starting ──▶ running ──signal──▶ stopping (not ready, then reverse order) ──▶ ended
 *       └── failed, or signal ─────────▲          second signal: exit(1)
 */
export function supervise(supervised: Supervised): Supervision {
  const { services, signals, log, exit } = supervised;
  let state: 'starting' | 'running' | 'stopping' = 'starting';
  let end: () => void = () => {};
  const signalled = new Promise<void>((resolve) => {
    end = () => {
      state = 'stopping';
      resolve();
    };
  });
  const onSignal = () => {
    if (state === 'stopping') {
      log.warn('second signal: leaving at once');
      exit(1);
    }
    end();
  };
  const run = async (): Promise<boolean> => {
    signals.on('SIGTERM', onSignal);
    signals.on('SIGINT', onSignal);
    try {
      await Promise.race([startAll(services), signalled]);
      if (state === 'starting') {
        state = 'running';
        supervised.started?.();
      }
      await signalled;
      return await stopAll(supervised);
    } catch (error) {
      state = 'stopping';
      await stopAll(supervised);
      throw error;
    } finally {
      signals.off('SIGTERM', onSignal);
      signals.off('SIGINT', onSignal);
    }
  };
  return {
    ready: () =>
      state === 'running' ? services.flatMap((service) => service.ready().map((reason) => `${service.name}: ${reason}`)) : [state],
    end,
    ended: run(),
  };
}

async function startAll(services: readonly Service[]): Promise<void> {
  for (const service of services) await service.start();
}

async function stopAll({ services, time, log, grace }: Supervised): Promise<boolean> {
  const over = new AbortController();
  const stopped = (async () => {
    let clean = true;
    // One after the other: a later service may depend on an earlier one until it has finished.
    for (const service of [...services].reverse()) {
      try {
        await service.stop(grace);
      } catch (error) {
        clean = false;
        log.error({ err: error, service: service.name }, 'did not stop cleanly');
      }
    }
    return clean;
  })();
  const late = time.sleep(grace + MARGIN, over.signal).then(() => 'late' as const);
  const result = await Promise.race([stopped, late]);
  over.abort();
  if (result !== 'late') return result;
  log.error({ grace }, 'did not stop within the grace: what was running will be delivered again');
  return false;
}
