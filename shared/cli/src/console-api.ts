import { ERRORS, type ErrorCode, MillraceError, messageOf } from '@millrace/core';

/** The console's HTTP API, wherever it runs. Rejects with the MillraceError that the problem document names. */
export interface ConsoleApi {
  /** For people: an address, or "this process". */
  readonly where: string;
  /** `patience`: how long the answer may take, in ms. Default 30 s. */
  get<T>(path: string, patience?: number): Promise<T>;
  post<T>(path: string, body: object): Promise<T>;
  close(): Promise<void>;
}

export interface Reply {
  readonly status: number;
  readonly text: string;
}

export function apiOver(
  where: string,
  send: (method: 'GET' | 'POST', path: string, body: string | undefined, patience: number) => Promise<Reply>,
  close: () => Promise<void>,
): ConsoleApi {
  const call = async <T>(method: 'GET' | 'POST', path: string, body?: object, patience = 30_000): Promise<T> => {
    const { status, text } = await send(method, path, body && JSON.stringify(body), patience);
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new MillraceError('MR3015', `${where} answered ${method} ${path} with ${status} and no JSON`, { cause });
    }
    if (status < 400) return value as T;
    const { code, detail, title } = value as { code?: string; detail?: string; title?: string };
    if (code !== undefined && Object.hasOwn(ERRORS, code)) throw new MillraceError(code as ErrorCode, detail ?? title ?? String(status));
    throw new MillraceError('MR3015', `${where} answered ${method} ${path} with ${status}: ${detail ?? title ?? text.slice(0, 200)}`);
  };
  return { where, get: (path, patience) => call('GET', path, undefined, patience), post: (path, body) => call('POST', path, body), close };
}

/** A console over the network. */
export function httpApi(url: string): ConsoleApi {
  const base = url.replace(/\/+$/, '');
  return apiOver(
    base,
    async (method, path, body, patience) => {
      let response: Response;
      try {
        response = await fetch(`${base}${path}`, {
          method,
          signal: AbortSignal.timeout(patience),
          ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
        });
      } catch (cause) {
        throw new MillraceError('MR3015', `${base} (${messageOf((cause as Error).cause ?? cause)})`, { cause });
      }
      return { status: response.status, text: await response.text() };
    },
    async () => undefined,
  );
}

export interface RunJson {
  readonly runId: string;
  readonly job: string;
  readonly tick: string;
  readonly cause: string;
  readonly generation: number;
  readonly state: 'planning' | 'running' | 'closed';
  readonly verdict: string | null;
  readonly counts: Readonly<Record<string, number>> & { readonly planned: number };
  readonly progress: { readonly done: number; readonly planned: number; readonly fraction: number };
  readonly startedAt: string;
  readonly closedAt: string | null;
  readonly durationMs: number;
  readonly itemsPerSecond: number;
  readonly planError: { readonly code: string; readonly message: string } | null;
  readonly failureGroups: readonly {
    readonly fingerprint: string;
    readonly title: string;
    readonly class: string;
    readonly count: number;
  }[];
  readonly traceId: string | null;
  readonly traceUrl: string | null;
}

export function runPath(runId: string): string {
  return `/v1/runs/${encodeURIComponent(runId)}`;
}
