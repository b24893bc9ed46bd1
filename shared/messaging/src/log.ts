/** What the adapters need of a logger; pino's shape. */
export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export const silent: Log = { info() {}, warn() {} };
