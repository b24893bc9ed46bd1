import { type Counts, countStates, decodeStates, type ItemState, isGood, noCounts, OUTCOMES, sumCounts } from '@millrace/core';

/** One chunk of one generation, as each book has it; null where a book has no row. */
export interface ChunkBooks {
  readonly seq: number;
  readonly generation: number;
  readonly plan_size: number | null;
  readonly plan: string | null;
  readonly plan_state: string | null;
  readonly ledger_size: number | null;
  readonly ledger: string | null;
  readonly inbox_size: number | null;
  readonly inbox: string | null;
}

export interface PlanOfRun {
  readonly state: string;
  readonly generation: number;
  readonly items: number;
  readonly duplicates: number;
  /** Chunks of generation 0. */
  readonly chunks: number;
}

export interface LedgerOfRun {
  readonly state: string;
  readonly generation: number;
  readonly verdict: string | null;
  readonly planned: number;
  readonly counts: Counts;
}

/** One pass over the run as the ledger has it. */
export interface LedgerPass {
  readonly generation: number;
  readonly items: number | null;
  readonly duplicates: number;
  readonly final: Partial<Counts>;
  readonly closed: boolean;
  readonly verdict: string | null;
}

export interface RunBooks {
  readonly plan: PlanOfRun | undefined;
  readonly ledger: LedgerOfRun | undefined;
  readonly passes: readonly LedgerPass[];
}

/** `positions` of chunk `seq`: whose keys are to be named. */
export interface Finding {
  readonly what: string;
  readonly chunk: string | null;
  readonly detail: string;
  readonly seq?: number;
  readonly positions?: readonly number[];
}

export interface Rules {
  /** The run is over: whatever is missing is lost. Of an open run only what is settled can be compared. */
  readonly closed: boolean;
  /** The inbox is in this database, and all of its rows must still be there. */
  readonly inbox: boolean;
}

/**
 * Rebuilds the balance sheet of a run from its chunks and compares three books that were written apart: the plan
 * (what was to be done), the inbox (what was committed with the effects) and the ledger (what people are told).
 * Fed chunk by chunk in the order of `seq`, so that a run of any size needs little memory.
 */
export class BooksComparison {
  readonly #books: RunBooks;
  readonly #rules: Rules;
  readonly #counts = noCounts();
  /** What the chunks of each generation hold: items that it took, and their final outcomes. */
  readonly #passes = new Map<number, { items: number; final: Counts }>();
  #open = 0;
  #items = 0;
  #next = 0;

  constructor(books: RunBooks, rules: Rules) {
    this.#books = books;
    this.#rules = rules;
  }

  /** Planned, every outcome, and what is still open, of the chunks seen so far. */
  balance(): Counts & { planned: number; open: number } {
    const duplicates = this.#books.plan?.duplicates ?? 0;
    return {
      planned: (this.#books.plan?.items ?? this.#items) + duplicates,
      ...this.#counts,
      duplicate: this.#counts.duplicate + duplicates,
      open: this.#open,
    };
  }

  begin(): Finding[] {
    const { plan, ledger, passes } = this.#books;
    const findings: Finding[] = [];
    const find = (what: string, detail: string) => findings.push({ what, chunk: null, detail });
    if (!plan) find('run missing in plan', 'planner.runs has no row of this run');
    if (!this.#rules.closed) return findings;
    if (!ledger) find('run missing in ledger', 'audit.runs has no row of this run');
    if (plan && ledger && plan.state !== ledger.state) find('state differs', `${ledger.state} in the ledger, ${plan.state} in the plan`);
    if (plan && ledger && plan.generation !== ledger.generation)
      find('generation differs', `plan ${plan.generation}, ledger ${ledger.generation}`);
    for (let generation = 0; generation <= ((plan ?? ledger)?.generation ?? 0); generation++) {
      if (!passes.some((pass) => pass.generation === generation))
        find('generation missing in ledger', `audit.generations has no row of generation ${generation}`);
    }
    return findings;
  }

  /** All layers of one chunk, from its first generation up. */
  chunk(layers: readonly [ChunkBooks, ...ChunkBooks[]]): Finding[] {
    const findings: Finding[] = [];
    const [{ seq, ...first }] = layers;
    const size = first.plan_size ?? first.ledger_size ?? first.inbox_size ?? 0;
    const { closed, inbox } = this.#rules;
    if (closed && this.#next < seq) findings.push(this.#gap(seq));
    this.#next = seq + 1;
    if (closed && first.generation > 0)
      findings.push({ what: 'chunk missing in plan', chunk: `0/${seq}`, detail: 'redriven, but no book has its first pass' });

    this.#items += size;
    const current = new Array<ItemState>(size).fill('p');
    for (const layer of layers) {
      const chunk = `${layer.generation}/${seq}`;
      const find = (what: string, detail: string, positions: readonly number[] = []) =>
        findings.push({ what, chunk, detail, seq, positions });
      const told = layer.ledger === null ? undefined : decodeStates(layer.ledger, size);
      if (layer.ledger !== null && !told) find('malformed outcomes', `ledger says ${JSON.stringify(layer.ledger)} for ${size} item(s)`);
      // A generation above 0 covers only the items it took; the plan says which.
      const taken = decodeStates(layer.plan ?? layer.inbox ?? layer.ledger ?? '', size) ?? new Array<ItemState>(size).fill('p');
      const covered = taken.flatMap((state, i) => (state === '-' ? [] : [i]));
      const pass = this.#passOf(layer.generation);
      pass.items += covered.length;
      if (told) add(pass.final, countStates(layer.ledger ?? '').counts);
      const again = covered.filter((i) => isGood(current[i] as ItemState) && told?.[i] !== '-');
      if (again.length > 0) find('done twice', `${again.length} item(s) were done before this generation took them`, again);
      for (let i = 0; i < size; i++) {
        const state = told?.[i] ?? (layer.generation === 0 || taken[i] !== '-' ? 'p' : '-');
        if (state !== '-') current[i] = state;
      }
      if (!closed) continue;
      if (layer.plan_state === null) find('chunk missing in plan', 'settled, but the plan has no such chunk');
      if (layer.ledger === null) find('chunk missing in ledger', `${covered.length} item(s) without a fate in the ledger`, covered);
      if (inbox && layer.inbox === null) find('chunk missing in inbox', `${covered.length} item(s) whose commit has no record`, covered);
      for (const [name, other] of [
        ['inbox', layer.inbox],
        ['plan', layer.plan],
      ] as const) {
        if (other === null || layer.ledger === null || other === layer.ledger) continue;
        const states = decodeStates(other, size);
        const differing = current.flatMap((_, i) => (states?.[i] === told?.[i] ? [] : [i]));
        find('outcomes differ', `${name} ${summary(other)}, ledger ${summary(layer.ledger)}: ${differing.length} item(s)`, differing);
      }
    }
    const sum = countStates(current.map((state) => `1${state}`).join(''));
    add(this.#counts, sum.counts);
    this.#open += sum.open;
    if (closed && sum.open > 0)
      findings.push({
        what: 'open items in a closed run',
        chunk: `${layers.at(-1)?.generation ?? 0}/${seq}`,
        detail: `${sum.open} item(s) without a final outcome`,
        seq,
        positions: current.flatMap((state, i) => (state === 'p' || state === 'f' ? [i] : [])),
      });
    return findings;
  }

  end(): Finding[] {
    const { plan, ledger, passes } = this.#books;
    const findings: Finding[] = [];
    if (!this.#rules.closed) return findings;
    const find = (what: string, detail: string) => findings.push({ what, chunk: null, detail });
    if (plan && this.#next < plan.chunks) findings.push(this.#gap(plan.chunks));
    if (plan && this.#items !== plan.items)
      find('items missing in plan', `the run has ${plan.items} item(s), its chunks hold ${this.#items}`);
    const { open, planned, ...counts } = this.balance();
    if (ledger) {
      const wrong = differences(ledger.counts, counts);
      if (ledger.planned !== planned) wrong.unshift(`planned ${ledger.planned}, rebuilt ${planned}`);
      if (wrong.length > 0) find('ledger counts differ', wrong.join('; '));
    }
    for (const pass of passes) {
      const { items, final } = this.#passOf(pass.generation);
      const wrong = differences({ ...noCounts(), ...pass.final }, final);
      if (pass.items !== items) wrong.unshift(`items ${pass.items ?? 'not told'}, rebuilt ${items}`);
      if (pass.generation === 0 && plan && pass.duplicates !== plan.duplicates)
        wrong.push(`duplicates ${pass.duplicates}, planned ${plan.duplicates}`);
      if (!pass.closed) wrong.push('not closed');
      if (pass.generation === ledger?.generation && pass.verdict !== ledger.verdict)
        wrong.push(`verdict ${pass.verdict ?? 'none'}, of the run ${ledger.verdict ?? 'none'}`);
      if (wrong.length > 0) find('generation differs', `generation ${pass.generation}: ${wrong.join('; ')}`);
    }
    if (sumCounts(counts) + open !== planned)
      find('the equation does not hold', `planned ${planned}, accounted for ${sumCounts(counts) + open}`);
    return findings;
  }

  #gap(before: number): Finding {
    const from = this.#next;
    const detail = `chunk${from + 1 === before ? ` ${from} is` : `s ${from} to ${before - 1} are`} in no book`;
    return { what: 'chunk missing in plan', chunk: `0/${from}`, detail };
  }

  #passOf(generation: number): { items: number; final: Counts } {
    let pass = this.#passes.get(generation);
    if (!pass) {
      pass = { items: 0, final: noCounts() };
      this.#passes.set(generation, pass);
    }
    return pass;
  }
}

function add(into: Counts, counts: Counts): void {
  for (const outcome of OUTCOMES) into[outcome] += counts[outcome];
}

function differences(told: Counts, rebuilt: Counts): string[] {
  return OUTCOMES.filter((outcome) => told[outcome] !== rebuilt[outcome]).map(
    (outcome) => `${outcome} ${told[outcome]}, rebuilt ${rebuilt[outcome]}`,
  );
}

function summary(outcomes: string): string {
  const { counts, open } = countStates(outcomes);
  const parts = OUTCOMES.filter((outcome) => counts[outcome] > 0).map((outcome) => `${counts[outcome]} ${outcome}`);
  return [...parts, ...(open > 0 ? [`${open} open`] : [])].join(', ') || 'nothing';
}
