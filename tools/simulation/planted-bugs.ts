/**
 * Bugs that somebody could make, each switched on by its name. Those of production code are patches that are applied while the simulation is
 * bundled (`find` must occur exactly once); those of SQL rules live in the simulated stores and brokers under the same name, since the
 * contract suites hold those to what the real adapters do.
 */
export interface PlantedBug {
  readonly name: string;
  readonly what: string;
  /** The kind of seeds that finds it: 500 of them are tried. Default: all kinds, in turn. */
  readonly profile?: string;
  readonly patches?: readonly Patch[];
}

export interface Patch {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

const PROCESSOR = 'services/processor/src/processor.ts';
const SETTLE = 'services/processor/src/settle-chunk.ts';
const STORE = 'services/processor/src/store-results.ts';
const INTAKE = 'services/planner/src/intake.ts';
const PLANNER = 'services/planner/src/planner.ts';
const PLAN_RUN = 'services/planner/src/plan-run.ts';
const CHUNK_WRITER = 'services/planner/src/chunk-writer.ts';
const DISPATCHER = 'services/planner/src/dispatcher.ts';
const AUDIT = 'services/audit/src/audit.ts';

const COMMIT = 'return this.#database.run(commit, patience);';

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'skip-on-duplicate',
    what: 'a redelivered chunk that is done is acknowledged without its fact',
    patches: [
      {
        file: SETTLE,
        find: 'if (known && todo.length === 0) return factOf(chunk, known);',
        replace: 'if (known && todo.length === 0) return undefined;',
      },
      { file: PROCESSOR, find: "if (!fact) return retry(0, 'there was no time for any item');", replace: 'if (!fact) return done;' },
    ],
  },
  {
    name: 'ack-before-confirm',
    profile: 'processors and disorder',
    what: 'the chunk is acknowledged while its fact is still on its way',
    patches: [
      {
        file: PROCESSOR,
        find: 'const untold = await this.#facts.add({ ...told',
        replace: 'const untold = undefined as { error: unknown } | undefined; void this.#facts.add({ ...told',
      },
    ],
  },
  {
    name: 'ack-before-commit',
    what: 'the chunk is acknowledged before its effects are committed',
    patches: [
      {
        file: PROCESSOR,
        find: 'const fact = await settle.settle(chunk, at, delivery.deliveries, trace);',
        replace: `const settling = settle.settle(chunk, at, delivery.deliveries, trace);
      settling.then((late) => late && this.#options.events.publish([ChunkSettled.envelope(late, this.#options.time.now())])).catch(() => undefined);
      if (settling) return done;
      const fact = await settling;`,
      },
    ],
  },
  {
    name: 'fact-before-commit',
    what: 'the fact goes out before the transaction is over',
    patches: [
      {
        file: STORE,
        find: COMMIT,
        replace: `this.#database.run(commit, patience).catch(() => undefined);
    return { ...mergeResults(chunk, undefined, results, results.todo), size: chunk.size, timing, settledAt: since };`,
      },
    ],
  },
  {
    name: 'fact-from-memory',
    what: 'the fact tells what this delivery found, not what the inbox holds',
    patches: [
      {
        file: SETTLE,
        find: '    committed();\n    return factOf(chunk, row);',
        replace: `    committed();
    const states = new Array(chunk.size).fill('-');
    for (const index of todo) states[placesOf(chunk)[index]] = results.states[index] ?? 'p';
    return factOf(chunk, { ...row, states });`,
      },
    ],
  },
  {
    name: 'no-check-in-transaction',
    what: 'what is left to do is not looked at again under the lock',
    patches: [
      {
        file: STORE,
        find: 'const indexes = stored ? results.todo.filter((index) => isTodo(stored, positionOf(chunk, index), chunk.attempt)) : results.todo;',
        replace: 'const indexes = results.todo;',
      },
    ],
  },
  {
    name: 'unknown-commit-is-success',
    profile: 'processors',
    what: 'a COMMIT whose answer was lost counts as done',
    patches: [
      {
        file: STORE,
        find: 'if (!careful && fault && !unknown) careful = true;',
        replace: `if (unknown) return { ...mergeResults(chunk, undefined, results, results.todo), size: chunk.size, timing, settledAt: since };
        if (!careful && fault && !unknown) careful = true;`,
      },
    ],
  },
  {
    name: 'bisect-blames-the-slice',
    what: 'one poisonous row fails its whole batch',
    patches: [{ file: STORE, find: 'if (slice.length > 1 && !isTransient(blame)) {', replace: 'if (slice.length < 0) {' }],
  },
  {
    name: 'purge-before-fence',
    profile: 'late duplicates',
    what: 'rows of the inbox are deleted before late duplicates of them are refused',
  },
  { name: 'inbox-in-another-transaction', what: 'effects are committed apart from the inbox row' },
  { name: 'insert-without-lock', what: 'two deliveries of a chunk do not wait for each other' },
  { name: 'non-mandatory-publish', profile: 'vanishing queue', what: 'a message that no queue takes is dropped, and confirmed' },
  {
    name: 'release-dropped',
    profile: 'vanishing queue',
    what: 'chunks that could not be published stay marked as sent',
    patches: [
      { file: DISPATCHER, find: 'await this.#store.releaseChunks(chunks);', replace: '' },
      { file: CHUNK_WRITER, find: 'await store.releaseChunks(sent);', replace: '' },
    ],
  },
  {
    name: 'lost-queue-unnoticed',
    profile: 'work broker',
    what: 'a queue is declared again, and nobody asks what it had held',
    patches: [{ file: DISPATCHER, find: 'const chunks = await store.resetEmitted(job);', replace: 'const chunks = 0;' }],
  },
  {
    name: 'reconciler-off',
    what: 'nobody looks for what got lost',
    patches: [
      {
        file: PLANNER,
        find: "this.#timed.run('reconcile', this.#config.reconcileEvery, signal, () => this.#reconcile()),",
        replace: '',
      },
    ],
  },
  {
    name: 'gap-scan-off',
    profile: 'event broker',
    what: 'ticks that no clock told of are not looked for',
    patches: [
      {
        file: PLANNER,
        find: 'if ((await this.#admissions.admit(manifest, now)).opened.length > 0) this.#changed();',
        replace: 'void manifest;',
      },
    ],
  },
  {
    name: 'tick-admitted-early',
    what: 'the fastest clock decides when a tick is due',
    patches: [{ file: INTAKE, find: 'if (early > 0) return retry', replace: 'if (early > 1e12) return retry' }],
  },
  {
    name: 'trigger-key-ignored',
    what: 'a trigger that comes twice opens two runs',
    patches: [{ file: INTAKE, find: 'manualTick(data.key)', replace: "manualTick(this.#random() < 0.5 ? data.key : data.key + '.again')" }],
  },
  {
    name: 'dependents-fired-twice',
    what: 'a fact that comes again opens the dependent again',
    patches: [
      {
        file: INTAKE,
        find: '      const runId = runIdOf(name, fact.tick);',
        replace: "      const runId = runIdOf(name, fact.tick + (delivery.deliveries > 1 ? '.again' : ''));",
      },
    ],
  },
  {
    name: 'resume-without-recall',
    what: 'a plan that goes on from its cursor does not know what is stored beyond it',
    patches: [{ file: PLAN_RUN, find: 'if (this.#run.nextSeq > 0) await', replace: 'if (this.#run.nextSeq < 0) await' }],
  },
  {
    name: 'owed-cleared-before-publish',
    profile: 'planners',
    what: 'a run forgets its facts before the stream has them',
    patches: [
      {
        file: 'services/planner/src/owed-facts.ts',
        find: 'for (const { runId, facts, trace } of await store.owedFacts(100)) {',
        replace: 'for (const { runId, facts, trace } of await store.owedFacts(100)) {\n    await store.clearOwed(runId, facts.length);',
      },
    ],
  },
  { name: 'no-epoch-check', profile: 'planners pausing', what: 'a planner that has lost its run goes on writing chunks' },
  { name: 'retry-from-memory', profile: 'planners', what: 'a retry waits in the memory of a planner instead of a row' },
  { name: 'closed-before-settled', what: 'a run is closed for the planner before it has heard of all chunks' },
  { name: 'redrive-repeats', what: 'a redrive that is asked for twice opens two generations' },
  {
    name: 'audit-acks-before-fold',
    profile: 'audits',
    what: 'facts are acknowledged before they are in the ledger',
    patches: [
      {
        file: AUDIT,
        find: 'const { gained, awaited } = await this.#store.fold({ opened, planned, planFailed, settled });',
        replace:
          'this.#store.fold({ opened, planned, planFailed, settled }).catch(() => undefined); const gained = new Map(), awaited = 0;',
      },
    ],
  },
  {
    name: 'outbox-cleared-before-publish',
    profile: 'audits',
    what: 'the ledger forgets that it owes a fact before the stream has it',
    patches: [
      {
        file: AUDIT,
        find: 'const spans = owed.map(({ data, trace }) => startCloseSpan(data, trace, events.system));',
        replace: `await this.#store.clearOutbox(owed.map(({ id }) => id));
    const spans = owed.map(({ data, trace }) => startCloseSpan(data, trace, events.system));`,
      },
    ],
  },
  { name: 'counter-instead-of-merge', what: 'every message counts, also one that says nothing new' },
  { name: 'last-outcome-wins', what: 'the latest message replaces what is known of a chunk' },
  { name: 'fold-without-lock', what: 'folds of one run do not take turns: seal and last outcome pass each other' },
  { name: 'completion-only-in-merge', what: 'a plan that is sealed last closes nothing' },
  { name: 'completion-only-in-seal', what: 'an outcome that comes last closes nothing' },
];
