/** What every peer has to do, in a process that plans and one that works. */
export interface Peer {
  /** Empties its own tables or keys. */
  reset(urls: Urls): Promise<void>;
  /** Puts all items in, as its documents advise for many. */
  plan(urls: Urls, items: number, chunked: boolean): Promise<void>;
  /** Works until `stop`; tells how many items have been done or have failed for good. */
  work(urls: Urls, chunked: boolean, settled: (done: number, failed: number) => void): Promise<{ stop(): Promise<void> }>;
}

export interface Urls {
  readonly postgres: string;
  readonly redis: string;
}
