import pg from 'pg';
import { sqlState } from './errors.ts';

/** How often connections are looked at. */
const LOOK_EVERY = 4_000;
/** Looks without a byte in either direction after which the server is asked. */
const SILENT_LOOKS = 2;
const PROBE_TIMEOUT = 5_000;
/** When a client vanishes in the middle of a transaction, its locks must not stay. */
const SESSION = `set idle_in_transaction_session_timeout = '60s'; set tcp_keepalives_idle = 15; set tcp_keepalives_interval = 5;
  set tcp_keepalives_count = 3;`;

/** Parts of pg's client that its types leave out. */
interface Watched extends pg.ClientBase {
  readonly processID: number | null;
  readonly readyForQuery: boolean;
  readonly connection: { readonly stream: { readonly bytesRead: number; readonly bytesWritten: number; destroy(error: Error): void } };
}

interface Silence {
  readonly bytes: number;
  readonly looks: number;
}

/**
 * Finds connections whose other side is gone without a word: a host that vanished, a firewall that forgot. pg waits for their answer for
 * ever, and TCP's own keep-alive takes two hours. A limit on the duration of queries would forbid long ones, so the server is
 * asked over a new connection:
 *
 *   waits in silence ──▶ the server has no such session, or one that waits for us ──▶ lost: destroyed, its query rejects
 *                   └──▶ the session works, or nobody answers ──▶ waits on
 */
export class LostConnections {
  readonly #url: string;
  readonly #silent = new Map<pg.ClientBase, Silence>();
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(url: string) {
    this.#url = url;
    this.#timer = setInterval(() => void this.#look(), LOOK_EVERY).unref();
  }

  /** For a new connection, before anybody uses it. Behind a pooler nobody can tell which session is whose: such a connection is not watched. */
  meet = async (client: pg.ClientBase): Promise<void> => {
    const ask = (text: string): Promise<unknown> => client.query({ text, query_timeout: PROBE_TIMEOUT } as pg.QueryConfig);
    const pid = 'select pg_backend_pid() as pid';
    const answer = await ask(`${SESSION} ${pid}`)
      .catch((error) => (sqlState(error) === undefined ? Promise.reject(error) : ask(pid)))
      .catch((error) => {
        destroy(client as Watched);
        throw sqlState(error) === undefined ? new Error('Connection terminated: the server does not answer', { cause: error }) : error;
      });
    const { rows } = [answer].flat().at(-1) as pg.QueryResult<{ pid: number }>;
    if (rows[0]?.pid === (client as Watched).processID) this.#silent.set(client, { bytes: -1, looks: 0 });
  };

  forget = (client: pg.ClientBase): void => {
    this.#silent.delete(client);
  };

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    for (const [client, { bytes, looks }] of this.#silent) {
      const { connection, readyForQuery } = client as Watched;
      const { bytesRead, bytesWritten } = connection.stream;
      const now = readyForQuery ? -1 : bytesRead + bytesWritten;
      this.#silent.set(client, { bytes: now, looks: now >= 0 && now === bytes ? looks + 1 : 0 });
    }
    if (this.#looking || this.#waiting().length === 0) return;
    this.#looking = true;
    try {
      await this.#ask();
    } catch {
      // The server is away, or stands still: what waits for it goes on waiting.
    } finally {
      this.#looking = false;
    }
  }

  #waiting(): Watched[] {
    return [...this.#silent].filter(([, { looks }]) => looks >= SILENT_LOOKS).map(([client]) => client as Watched);
  }

  async #ask(): Promise<void> {
    const probe = new pg.Client({
      connectionString: this.#url,
      application_name: 'millrace-probe',
      connectionTimeoutMillis: PROBE_TIMEOUT,
      query_timeout: PROBE_TIMEOUT,
    });
    probe.on('error', () => {});
    try {
      await probe.connect();
      const all = [...this.#silent.keys()] as Watched[];
      const { rows } = await probe.query<{ pid: number; waits: boolean }>(
        `select pid, state <> 'active' and state_change < now() - interval '3 seconds' as waits from pg_stat_activity where pid = any($1::integer[])`,
        [all.map((client) => client.processID)],
      );
      const sessions = new Map(rows.map((row) => [row.pid, row.waits]));
      for (const client of all) if (!sessions.has(client.processID ?? 0)) destroy(client);
      for (const client of this.#waiting()) {
        if (sessions.get(client.processID ?? 0) !== true) continue;
        destroy(client);
        // It may hold locks.
        await probe.query('select pg_terminate_backend($1)', [client.processID]);
      }
    } finally {
      await probe.end().catch(() => {});
    }
  }
}

function destroy(client: Watched): void {
  client.connection.stream.destroy(new Error('Connection terminated: the server does not know it any more'));
}
