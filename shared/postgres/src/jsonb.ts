/** JSON for a jsonb parameter. jsonb refuses NUL and lone surrogates, which error messages and reasons may quote from data: they are replaced. */
export function jsonb(value: unknown): string {
  // The lookbehind leaves an escaped backslash before "u0000" alone.
  return JSON.stringify(value).replace(/(?<!\\)((?:\\\\)*)\\u(?:0000|d[89a-f][0-9a-f]{2})/gi, '$1\ufffd');
}

/** The same for a text parameter, which refuses NUL. */
export function plainText(text: string): string {
  return text.replaceAll('\0', '\ufffd');
}
