import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { platformOptions } from '@millrace/runtime';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

interface Container {
  readonly image: string;
  readonly build?: { readonly target: string };
  readonly ports?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly volumes?: readonly string[];
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly stop_grace_period?: string;
}
const { services } = parse(read('docker-compose.yml'), { merge: true }) as { services: Readonly<Record<string, Container>> };
const containers = Object.entries(services);
const targets = [...read('deploy/docker/Dockerfile').matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, target]) => target);
const SERVICES = ['clock', 'planner', 'processor', 'audit', 'console'];

describe('docker-compose.yml', () => {
  test('opens ports on loopback only', () => {
    const ports = containers.flatMap(([, { ports = [] }]) => ports);
    expect(ports.length).toBeGreaterThan(0);
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([]);
  });

  test('builds only what the Dockerfile has, which has a target for each service', () => {
    expect(targets).toEqual(expect.arrayContaining([...SERVICES, 'cli']));
    for (const [, { build }] of containers) if (build) expect(targets).toContain(build.target);
  });

  test.each(SERVICES)('%s cannot write, has no capabilities, reads its own secrets only, and has longer than its grace', (name) => {
    const { read_only, cap_drop, volumes, environment = {}, stop_grace_period = '' } = services[name] as Container;
    expect({ read_only, cap_drop, volumes }).toEqual({ read_only: true, cap_drop: ['ALL'], volumes: [`secrets-${name}:/secrets:ro`] });
    expect(Object.keys(environment).filter((variable) => /_URL$/.test(variable) && variable !== 'MILLRACE_JAEGER_URL')).toEqual([]);
    expect(environment['MILLRACE_NATS_INBOX']).toBe(`_INBOX_${name}`);
    // What supervise() adds to the grace is 5 s.
    expect(Number.parseInt(stop_grace_period, 10) * 1_000).toBeGreaterThan((platformOptions.grace.default ?? 0) + 5_000);
  });

  test('traces are off unless asked for', () => {
    for (const name of SERVICES) expect(services[name]?.environment).toHaveProperty('OTEL_EXPORTER_OTLP_ENDPOINT', null);
  });
});

test('deploy/e2e.sh runs every command of docs/deploy/compose.md', () => {
  const commands = [...read('docs/deploy/compose.md').matchAll(/^```sh\n([^`]*)^```$/gm)].flatMap(([, block = '']) =>
    block.trim().split('\n'),
  );
  const script = read('deploy/e2e.sh').replaceAll('\\$', '$');
  expect(commands.length).toBeGreaterThan(10);
  expect(
    commands.filter((command) => !['page ', '='].some((before) => [`'`, '"'].some((q) => script.includes(`${before}${q}${command}${q}`)))),
  ).toEqual([]);
});
