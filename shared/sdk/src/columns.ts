/**
 * The effects turned into one array per column, as `unnest` takes them:
 *
 *     tx.query(`insert into t select * from unnest($1::int[], $2::text[])`, columns(effects, 'id', 'name'))
 *
 * Without names: the fields of the first effect, in their order. An absent field becomes null, an object or array JSON text.
 */
export function columns<Effect extends object>(effects: readonly Effect[], ...names: readonly (keyof Effect & string)[]): unknown[][] {
  const fields = names.length > 0 ? names : (Object.keys(effects[0] ?? {}) as (keyof Effect & string)[]);
  return fields.map((field) =>
    effects.map((effect) => {
      const value: unknown = effect[field] ?? null;
      return typeof value === 'object' && value !== null ? JSON.stringify(value) : value;
    }),
  );
}
