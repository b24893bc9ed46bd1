/** What a process needs that only runs the logic of jobs: no client of any server is loaded with it. */
export { loadJobs } from './load-jobs.ts';
export { openLog } from './log.ts';
export { systemTime } from './system-time.ts';
