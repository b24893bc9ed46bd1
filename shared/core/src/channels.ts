/** Names on the brokers. Work has one owner and travels on RabbitMQ; ticks, triggers and facts travel on JetStream. */
export const STREAMS = {
  ticks: { name: 'MILLRACE_TICKS', subjects: ['millrace.ticks.>'] },
  triggers: { name: 'MILLRACE_TRIGGERS', subjects: ['millrace.triggers.>', 'millrace.control.>'] },
  facts: { name: 'MILLRACE_FACTS', subjects: ['millrace.facts.>'] },
} as const;
export type StreamName = keyof typeof STREAMS;

/** Bucket with one manifest per job, written by planners, read by clocks and consoles. */
export const JOBS_BUCKET = 'millrace_jobs';

/** One tick, one subject: the stream keeps the first message of a subject and refuses the rest. Without an instant: what the subjects of a job share. */
export function tickSubject(job: string, nominal?: number): string {
  return nominal === undefined ? `millrace.ticks.${job}` : `millrace.ticks.${job}.${nominal}`;
}
export function triggerSubject(job: string): string {
  return `millrace.triggers.${job}`;
}
export function redriveSubject(job: string): string {
  return `millrace.control.redrive.${job}`;
}
/** Facts by kind first, so that a reader of one kind needs a single filter: `millrace.facts.chunk.settled.>`. */
export function factSubject(kind: string, job: string): string {
  return `millrace.facts.${kind}.${job}`;
}
/** One queue per job: depth is readable per job, and jobs do not stand in each other's way. */
export function chunkQueue(job: string): string {
  return `millrace.chunks.${job}`;
}
export const PARKED_QUEUE = 'millrace.parked';
