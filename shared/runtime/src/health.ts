import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MillraceError, messageOf } from '@millrace/core';
import { METRICS_TYPE, metricsText } from './telemetry/metrics.ts';

export interface HealthOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** Reasons for not being ready; [] = ready. */
  readonly reasons: () => readonly string[];
}

export interface HealthServer {
  readonly port: number;
  close(): Promise<void>;
}

/** /livez says that the process turns its event loop, /readyz that it can do its work now, /metrics what it runs. */
export async function openHealth({ host, port, reasons }: HealthOptions): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(response, 405, 'text/plain', 'GET only\n');
    if (path === '/livez') return answer(response, 200, 'application/json', '{"status":"ok"}\n');
    if (path === '/readyz') return readiness(response, reasons());
    if (path === '/metrics') return void metricsPage(response);
    return answer(response, 404, 'text/plain', 'Not found: /livez, /readyz and /metrics are here\n');
  });
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function metricsPage(response: ServerResponse): Promise<void> {
  try {
    answer(response, 200, METRICS_TYPE, await metricsText());
  } catch (error) {
    answer(response, 500, 'text/plain', `${messageOf(error)}\n`);
  }
}

function readiness(response: ServerResponse, reasons: readonly string[]): void {
  const ready = reasons.length === 0;
  answer(response, ready ? 200 : 503, 'application/json', `${JSON.stringify({ status: ready ? 'ready' : 'not ready', reasons })}\n`);
}

function answer(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new MillraceError('MR2001', `cannot listen on ${host}:${port} (MILLRACE_HEALTH_HOST, MILLRACE_HEALTH_PORT): ${messageOf(cause)}`, {
          cause,
        }),
      ),
    );
    server.listen(port, host, () => resolve());
  });
}
