import { type DestinationStream, destination, pino, stdTimeFunctions } from 'pino';
import type { Logger } from './platform.ts';

/** JSON lines to stderr; stdout stays free for data. Secrets in well-known fields are redacted. */
export function openLog(
  service: string,
  instance: string,
  level: string,
  to: DestinationStream = destination({ dest: 2, sync: true }),
): Logger {
  return pino(
    {
      level,
      base: { service, instance },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: ['url', '*.url', 'password', '*.password', 'token', '*.token', 'secret', '*.secret'], censor: '(hidden)' },
    },
    to,
  );
}
