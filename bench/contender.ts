import type { Processes } from './cost.ts';
import type { Servers } from './servers.ts';

/** Something that does the job, or a part of it that bounds how fast the job can be. */
export interface Contender {
  readonly name: string;
  readonly label: string;
  /** `item`: a peer with one queue entry per item. `chunked`: a peer given 500 items per entry by hand. */
  readonly kind: 'millrace' | 'item' | 'chunked' | 'limit';
  readonly uses: readonly (keyof Servers)[];
  /** Leaves its rows in the table of the server, which is then counted. */
  readonly writes: boolean;
  open(servers: Servers): Promise<Opened>;
}

export interface Opened {
  readonly processes: Processes;
  /** The whole job; resolves once it is known what became of every item. Not counted: what happens before `run` and after. */
  run(items: number): Promise<void>;
  close(): Promise<void>;
}
