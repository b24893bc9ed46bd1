/**
 * Why a value would not come back the same from JSON, with the place, or undefined when it would: `.at is a Date`.
 * Cheaper than a round trip; cost is one visit per value.
 */
export function whyNotJson(value: unknown): string | undefined {
  const why = flawIn(value, 0);
  return why?.startsWith(' ') ? `the value${why}` : why;
}

/** Begins with a blank where it is the value itself. Places are put together on the way out: most values have no flaw. */
function flawIn(value: unknown, depth: number): string | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : ` is ${value}`;
    case 'object': {
      if (value === null) return undefined;
      if (depth > 64) return ' is nested deeper than 64 levels';
      if (Array.isArray(value)) {
        for (let i = 0; i < value.length; i++) {
          const why = flawIn(value[i], depth + 1);
          if (why) return `[${i}]${why}`;
        }
        return undefined;
      }
      const prototype = Object.getPrototypeOf(value);
      if (prototype !== Object.prototype && prototype !== null) return ` is a ${prototype?.constructor?.name ?? 'class instance'}`;
      for (const key in value) {
        const field = (value as Record<string, unknown>)[key];
        // An absent field and an undefined one read the same afterwards.
        if (field === undefined) continue;
        const why = flawIn(field, depth + 1);
        if (why) return `.${key}${why}`;
      }
      return undefined;
    }
    default:
      return ` is ${value === undefined ? 'undefined' : `a ${typeof value}`}`;
  }
}
