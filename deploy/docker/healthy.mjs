// Exits with 0 when the service of this container is ready.
import { get } from 'node:http';

const request = get({ host: '127.0.0.1', port: process.env.MILLRACE_HEALTH_PORT, path: '/readyz', timeout: 8_000 }, ({ statusCode }) =>
  process.exit(statusCode === 200 ? 0 : 1),
);
request.on('timeout', () => request.destroy(new Error('no answer')));
request.on('error', () => process.exit(1));
