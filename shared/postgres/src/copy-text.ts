/** Rows in the text format of COPY: tabs between values, \N for NULL, backslash escapes. */
export function copyText(rows: readonly (readonly unknown[])[]): string {
  let text = '';
  for (const row of rows) {
    for (let i = 0; i < row.length; i++) text += i === 0 ? field(row[i]) : `\t${field(row[i])}`;
    text += '\n';
  }
  return text;
}

/** The same of records, of which each column takes the field of its name. */
export function copyRecords(columns: readonly string[], records: readonly Readonly<Record<string, unknown>>[]): string {
  let text = '';
  for (const record of records) {
    for (let i = 0; i < columns.length; i++) {
      const value = field(record[columns[i] as string]);
      text += i === 0 ? value : `\t${value}`;
    }
    text += '\n';
  }
  return text;
}

const SPECIAL = /[\\\t\n\r]/;
const ESCAPES: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

function field(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return SPECIAL.test(value) ? value.replace(/[\\\t\n\r]/g, (c) => ESCAPES[c] as string) : value;
    case 'number':
    case 'bigint':
      return String(value);
    case 'boolean':
      return value ? 't' : 'f';
    case 'undefined':
      return '\\N';
    default:
      if (value === null) return '\\N';
      if (value instanceof Date) return value.toISOString();
      if (value instanceof Uint8Array) return `\\\\x${Buffer.from(value).toString('hex')}`;
      return field(JSON.stringify(value));
  }
}

/** `schema.table` or `table`, quoted. */
export function quoteName(name: string): string {
  return name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.');
}

export function copyStatement(table: string, columns: readonly string[], source: string): string {
  return `copy ${quoteName(table)} (${columns.map(quoteName).join(', ')}) from ${source}`;
}
