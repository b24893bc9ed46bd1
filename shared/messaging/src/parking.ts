import { PARKED_QUEUE, STREAMS } from '@millrace/core';

/** Header of a parked message that says why it was set aside. */
export const REASON_HEADER = 'millrace-reason';

/** Messages parked from streams: `millrace.parked.<original subject>`. */
export const PARKED_STREAM = {
  name: 'MILLRACE_PARKED',
  subjects: [`${PARKED_QUEUE}.>`],
} as const;

export function parkedSubject(subject: string): string {
  return `${PARKED_QUEUE}.${subject}`;
}

const ALL_STREAMS = [...Object.values(STREAMS), PARKED_STREAM].map(({ name, subjects }) => ({
  name,
  subjects: subjects as readonly string[],
}));
export type StreamShape = (typeof ALL_STREAMS)[number];

/** The stream that holds a subject, or all that a filter can match; undefined when there is none. */
export function streamOf(subject: string): StreamShape | undefined {
  return ALL_STREAMS.find(({ subjects }) => subjects.some((pattern) => subject.startsWith(pattern.slice(0, -1))));
}

/** NATS subject matching: `*` stands for one token, a last `>` for one or more. */
export function matcherOf(filter: string): (subject: string) => boolean {
  const parts = filter.split('.').map((token, index, all) => {
    if (token === '>' && index === all.length - 1) return '.+';
    return token === '*' ? '[^.]+' : token.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  });
  const expression = new RegExp(`^${parts.join('\\.')}$`);
  return (subject) => expression.test(subject);
}
