/** The planted bugs that are switched on in this world. None in an honest one. */
export class Mutants {
  readonly #names: ReadonlySet<string>;

  constructor(names: Iterable<string> = []) {
    this.#names = new Set(names);
  }

  on(name: string): boolean {
    return this.#names.has(name);
  }
}
