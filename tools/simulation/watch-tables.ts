import type { World } from './world.ts';

/** What the reconciler had to do, and what may never be true even for a moment, is seen at the tables of the planner. */
export function watchTables({ plan, profile, stalls, scheduler, complaints }: World): void {
  const resetStalled = plan.resetStalled.bind(plan);
  plan.resetStalled = (job, idle, limit, most) => {
    const result = resetStalled(job, idle, limit, most);
    stalls.reset += result.reset;
    if (result.reset > 0) scheduler.log(`the reconciler sends ${result.reset} chunks of ${job} again`);
    return result;
  };
  const releaseUnconfirmed = plan.releaseUnconfirmed.bind(plan);
  plan.releaseUnconfirmed = (jobs) => {
    const released = releaseUnconfirmed(jobs);
    stalls.unconfirmed += released;
    if (released > 0) scheduler.log(`${released} claims were never confirmed`);
    return released;
  };
  const closeRun = plan.closeRun.bind(plan);
  plan.closeRun = (closed, dependents) => {
    const result = closeRun(closed, dependents);
    const run = plan.runs.get(closed.runId);
    // Else a redrive would pass over failures that the planner has not heard of.
    if (run?.state === 'closed' && run.chunks.some(({ generation, state }) => generation === run.generation && state !== 'settled'))
      complaints.push(`I4 ${run.runId} is closed for the planner before all its chunks have settled`);
    return result;
  };
  const tellAgain = plan.tellAgain.bind(plan);
  plan.tellAgain = (jobs, idle) => {
    const told = tellAgain(jobs, idle);
    // Without a time to be silent for, the event broker did not know a job. A planner that stood still since it asked is wrong about that,
    // and tells what nobody has lost: work for nothing, and no harm.
    if (idle > 0 || !profile.roles.includes('planner')) stalls.told += told.length;
    if (told.length > 0) scheduler.log(`the reconciler tells ${told.join(' ')} again`);
    return told;
  };
}
