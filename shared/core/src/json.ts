/**
 * Why a value would not come back the same from JSON, with the place, or undefined when it would: `.at is a Date`.
 * Cheaper than a round trip; cost is one visit per value.
 */
export function whyNotJson(value: unknown, path = '', depth = 0): string | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : `${path || 'the value'} is ${value}`;
    case 'object': {
      if (value === null) return undefined;
      if (depth > 64) return `${path} is nested deeper than 64 levels`;
      if (Array.isArray(value)) {
        for (let i = 0; i < value.length; i++) {
          const why = whyNotJson(value[i], `${path}[${i}]`, depth + 1);
          if (why) return why;
        }
        return undefined;
      }
      const prototype = Object.getPrototypeOf(value);
      if (prototype !== Object.prototype && prototype !== null)
        return `${path || 'the value'} is a ${prototype?.constructor?.name ?? 'class instance'}`;
      for (const key in value) {
        const field = (value as Record<string, unknown>)[key];
        // An absent field and an undefined one read the same afterwards.
        if (field === undefined) continue;
        const why = whyNotJson(field, `${path}.${key}`, depth + 1);
        if (why) return why;
      }
      return undefined;
    }
    default:
      return `${path || 'the value'} is ${value === undefined ? 'undefined' : `a ${typeof value}`}`;
  }
}
