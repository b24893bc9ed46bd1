import { decodeStates, type ItemState, keysIn, mergeState, OUTCOMES, outcomeOf, sumCounts } from '@millrace/core';
import { REASON_HEADER } from '../../shared/messaging/src/parking.ts';
import type { Book } from './ledger-tables.ts';
import type { RunRow } from './plan-rows.ts';
import type { Item } from './workload.ts';
import type { World } from './world.ts';

/**
 * What must hold once a world has come to rest, read from its databases:
 * I1 one run per nominal tick, none early   I2 at most one effect per run and item   I3 applied ⇔ effect
 * I4 every run closed, its books balanced, every item as its kind demands   I5 nothing unhandled (checked while it runs)
 * I7 the reconciler had nothing to do where nothing was lost
 */
export function checkInvariants(world: World): string[] {
  const found: string[] = [];
  const { plan, ledger, inbox, workload, profile, stalls } = world;

  const decided = plan.ticks.get('timed');
  for (const nominal of workload.ticks) {
    const record = decided?.get(nominal);
    const run = plan.runs.get(workload.tickRun(nominal));
    if (!record) found.push(`I1 tick ${nominal} has no record`);
    else if ((record.result === 'ran') !== (run !== undefined))
      found.push(`I1 tick ${nominal} is recorded as ${record.result}, its run ${run ? 'exists' : 'does not'}`);
    if (record?.result === 'missed') found.push(`I1 tick ${nominal} was missed though it was caught up in time`);
    if (run && run.openedAt < nominal) found.push(`I1 ${run.runId} opened ${nominal - run.openedAt} ms early`);
  }
  const ran = [...(decided?.values() ?? [])].filter(({ result }) => result === 'ran').map(({ nominal }) => workload.tickRun(nominal));
  const expected = new Set([...ran, ...ran.map((run) => run.replace('timed@', 'behind@')), ...workload.triggeredRuns]);
  for (const runId of plan.runs.keys()) if (!expected.has(runId)) found.push(`I1 nobody asked for the run ${runId}`);

  for (const [effect, times] of inbox.effects) if (times > 1) found.push(`I2 effect ${effect} was committed ${times} times`);

  for (const run of plan.runs.values()) {
    const book = ledger.books.get(run.runId);
    if (!book) found.push(`I4 ${run.runId} has no book`);
    else found.push(...checkRun(world, run, book));
  }
  for (const message of [...world.work.parked, ...world.events.parked]) {
    const reason = message.headers[REASON_HEADER];
    // What comes back after the retention of inboxes can only be set aside.
    if (!(profile.retention && reason?.startsWith('MR4004'))) found.push(`I5 ${message.id} was parked: ${reason}`);
  }
  if (profile.noStalled && stalls.reset > 0)
    found.push(`I7 ${stalls.reset} chunks were sent again for standing still, though none was lost`);
  if (profile.noStalled && stalls.unconfirmed > 0)
    found.push(`I7 ${stalls.unconfirmed} claims were given up, though nobody died who held them`);
  if (profile.noTellAgain && stalls.told > 0) found.push(`I7 ${stalls.told} runs were told again, though no fact was lost`);
  return found;
}

function checkRun(world: World, run: RunRow, book: Book): string[] {
  const { workload, inbox } = world;
  const found: string[] = [];
  const plan = workload.planOf(run.runId);
  const redriven = run.generation > 0;
  if (book.state !== 'closed') found.push(`I4 the book of ${run.runId} is ${book.state}`);
  if (run.verdict !== book.verdict) found.push(`I4 ${run.runId} ended ${run.verdict} for the planner and ${book.verdict} in the ledger`);

  // Which item lies where, from the planner's payloads.
  const places = new Map<string, Item>();
  const states = new Map<string, ItemState>();
  const known = new Map(plan.items.map((item) => [item.id, item]));
  for (const chunk of run.chunks) {
    if (chunk.generation > 0) continue;
    const keys = keysIn(chunk.payload ?? '[]');
    const merged = new Array<ItemState>(chunk.size).fill('-');
    let inboxMerged: ItemState[] | undefined;
    for (let generation = 0; generation <= run.generation; generation++) {
      const row = book.chunks.get(`${run.runId}/${generation}/${chunk.seq}`);
      const stored = inbox.rows.get(`${run.runId}/${generation}/${chunk.seq}`);
      for (const [position, state] of (row ? decodeStates(row.outcomes, row.size) : undefined)?.entries() ?? [])
        if (state !== '-') merged[position] = generation === 0 ? mergeState(merged[position] as ItemState, state) : state;
      if (stored) {
        inboxMerged ??= new Array<ItemState>(chunk.size).fill('-');
        for (const [position, state] of stored.states.entries()) if (state !== '-') inboxMerged[position] = state;
      }
    }
    if (!world.profile.retention && inboxMerged?.join('') !== merged.join(''))
      found.push(`I3 chunk ${run.runId}/${chunk.seq}: the ledger says ${merged.join('')}, the inbox ${inboxMerged?.join('')}`);
    const stored = inbox.rows.get(`${run.runId}/0/${chunk.seq}`);
    const items = keys.map((key) => known.get(key)).filter((item): item is Item => item !== undefined);
    if (stored && stored.attempt > workload.attemptsOf(items))
      found.push(`I4 chunk ${run.runId}/${chunk.seq} spent ${stored.attempt} attempts, its items need ${workload.attemptsOf(items)}`);
    for (const [position, key] of keys.entries()) {
      const item = known.get(key);
      if (!item) found.push(`I4 ${run.runId} planned ${key}, which its source never had`);
      if (places.has(key)) found.push(`I2 ${run.runId} planned ${key} twice`);
      if (item) places.set(key, item);
      states.set(key, merged[position] as ItemState);
    }
  }

  const planFailed = run.facts.some(({ kind }) => kind === 'run.plan_failed');
  if (!planFailed) {
    for (const item of plan.items) if (!places.has(item.id)) found.push(`I4 ${run.runId} never planned ${item.id}`);
    const duplicates = plan.yields.length - plan.items.length;
    if (book.planned !== plan.yields.length)
      found.push(`I4 ${run.runId} counts ${book.planned} planned, the source yielded ${plan.yields.length}`);
    if (run.duplicates !== duplicates) found.push(`I4 ${run.runId} counts ${run.duplicates} duplicates, the source had ${duplicates}`);
  } else if (plan.failures === 0) {
    // A source that works in the end may still have cost all attempts at planning, for crashes count as attempts.
    if (!world.profile.roles.includes('planner') && !world.profile.deploys)
      found.push(`I4 the plan of ${run.runId} failed though its source works`);
  }

  const counts = new Map<string, number>();
  for (const [key, state] of states) {
    const outcome = outcomeOf(state);
    if (!outcome) found.push(`I4 item ${key} of ${run.runId} has no final outcome (${state})`);
    else counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    const item = places.get(key);
    const wanted = item && workload.finalState(item, redriven);
    if (wanted && state !== wanted) found.push(`I4 ${item.kind} item ${key} of ${run.runId} ended as ${state}, not ${wanted}`);
    const effects = inbox.effects.get(`${run.runId} ${key}`) ?? 0;
    if ((state === 'a') !== effects > 0) found.push(`I3 item ${key} of ${run.runId} is ${state} and has ${effects} effects`);
  }
  counts.set('duplicate', (counts.get('duplicate') ?? 0) + run.duplicates);
  for (const outcome of OUTCOMES)
    if (book.counts[outcome] !== (counts.get(outcome) ?? 0))
      found.push(`I4 ${run.runId} counts ${book.counts[outcome]} ${outcome}, its items say ${counts.get(outcome) ?? 0}`);
  if (sumCounts(book.counts) !== book.planned)
    found.push(`I4 ${run.runId}: ${sumCounts(book.counts)} outcomes for ${book.planned} planned items`);
  return found;
}
