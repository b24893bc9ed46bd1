import { messageOf, type Time } from '@millrace/core';
import type { Ledger } from './ledger.ts';
import { type RunView, viewOf } from './run-view.ts';

const FRAME_MS = 500;
const NEWEST = 50;
/** An idle stream says something this often, so that proxies and dead peers are noticed. */
const HEARTBEAT_FRAMES = 30;

type Listener = (frame: readonly RunView[] | 'heartbeat') => void;

/** One poll of the ledger feeds every listener: two frames a second at most, and only runs that changed. Rests while nobody listens. */
export class RunFeed {
  readonly #ledger: Ledger;
  readonly #time: Time;
  readonly #warn: (error: string) => void;
  readonly #jaegerUrl: string | undefined;
  readonly #listeners = new Set<Listener>();
  readonly #last = new Map<string, { text: string; view: RunView }>();
  #stop: AbortController | undefined;

  constructor(ledger: Ledger, time: Time, warn: (error: string) => void, jaegerUrl?: string) {
    this.#jaegerUrl = jaegerUrl;
    this.#ledger = ledger;
    this.#time = time;
    this.#warn = warn;
  }

  /** The first frame holds all that is shown; returns the way to leave. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    if (this.#last.size > 0) listener([...this.#last.values()].map(({ view }) => view));
    if (!this.#stop) void this.#run((this.#stop = new AbortController()).signal);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.close();
    };
  }

  close(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#listeners.clear();
    this.#last.clear();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let idle = 0;
    while (!signal.aborted) {
      try {
        const changed = await this.#changes();
        if (signal.aborted) return;
        idle = changed.length > 0 ? 0 : idle + 1;
        if (changed.length > 0) this.#tell(changed);
        else if (idle % HEARTBEAT_FRAMES === 0) this.#tell('heartbeat');
      } catch (error) {
        this.#warn(messageOf(error));
      }
      await this.#time.sleep(FRAME_MS, signal);
    }
  }

  #tell(frame: readonly RunView[] | 'heartbeat'): void {
    for (const listener of this.#listeners) listener(frame);
  }

  /** Runs left the newest and closed are forgotten after their last frame. */
  async #changes(): Promise<RunView[]> {
    const open = [...this.#last.values()].filter(({ view }) => view.state !== 'closed').map(({ view }) => view.runId);
    const runs = await this.#ledger.liveRuns(NEWEST, open);
    const now = this.#time.now();
    const changed: RunView[] = [];
    const seen = new Set<string>();
    for (const run of runs) {
      seen.add(run.runId);
      const text = JSON.stringify(run);
      if (this.#last.get(run.runId)?.text === text) continue;
      const view = viewOf(run, [], now, this.#jaegerUrl);
      this.#last.set(run.runId, { text, view });
      changed.push(view);
    }
    for (const runId of this.#last.keys()) if (!seen.has(runId)) this.#last.delete(runId);
    return changed;
  }
}
