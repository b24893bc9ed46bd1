import { type Envelope, shortHash } from '@millrace/core';

/** Header of a message that holds several: for each a line with its id and its headers, and a line with its body. */
export const BUNDLE_HEADER = 'millrace-bundle';
/** Far below the largest message that a NATS server takes by default, 1 MiB. */
const BUNDLE_BYTES = 256 * 1024;
const LINE_BREAK = 0x0a;

/** Puts neighbours of one subject together. A message stays as it is when it is alone, or its body is of more than one line. */
export function bundle(messages: readonly Envelope[]): readonly Envelope[] {
  const bundles: Envelope[][] = [];
  let bytes = 0;
  for (const message of messages) {
    const current = bundles.at(-1);
    const open = current?.[0]?.subject === message.subject && isOneLine(message) && isOneLine(current[0]);
    bytes = open ? bytes + message.body.length : message.body.length;
    if (open && bytes <= BUNDLE_BYTES) current.push(message);
    else bundles.push([message]);
  }
  return bundles.map((parts) => (parts.length === 1 ? (parts[0] as Envelope) : together(parts)));
}

function isOneLine({ body }: Envelope): boolean {
  return !body.includes(LINE_BREAK);
}

function together(parts: readonly Envelope[]): Envelope {
  const lines = parts.flatMap(({ id, headers, body }) => [Buffer.from(`${JSON.stringify({ id, headers })}\n`), body, Buffer.from('\n')]);
  return {
    id: shortHash(parts.map(({ id }) => id).join('\n')),
    subject: parts[0]?.subject ?? '',
    headers: { [BUNDLE_HEADER]: String(parts.length) },
    body: Buffer.concat(lines),
  };
}

/** What `bundle` has put together, or undefined when it is none. Throws for one that is cut off or no bundle of ours. */
export function unbundle({ subject, headers, body }: Envelope): readonly Envelope[] | undefined {
  const count = headers[BUNDLE_HEADER];
  if (count === undefined) return undefined;
  const parts: Envelope[] = [];
  for (let from = 0; from < body.length; ) {
    const [head, afterHead] = lineAt(body, from);
    const [text, next] = lineAt(body, afterHead);
    const { id, headers: own } = JSON.parse(Buffer.from(head).toString()) as Pick<Envelope, 'id' | 'headers'>;
    if (typeof id !== 'string' || typeof own !== 'object' || own === null) throw new SyntaxError('a bundle without ids');
    parts.push({ id, subject, headers: own, body: text });
    from = next;
  }
  // Nobody would ever answer for a message that holds none.
  if (parts.length === 0 || parts.length !== Number(count)) throw new SyntaxError(`a bundle of ${count} messages holds ${parts.length}`);
  return parts;
}

function lineAt(body: Uint8Array, from: number): readonly [line: Uint8Array, next: number] {
  const end = body.indexOf(LINE_BREAK, from);
  if (end < 0) throw new SyntaxError('a bundle that is cut off');
  return [body.subarray(from, end), end + 1];
}
