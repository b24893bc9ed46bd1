import { expect, test } from '@jest/globals';
import type { Envelope } from '@millrace/core';
import { BUNDLE_HEADER, bundle, unbundle } from './bundle.ts';

const message = (id: string, text: string, subject = 'facts.a'): Envelope => ({
  id,
  subject,
  headers: { 'millrace-kind': 'fact', 'millrace-at': '1' },
  body: new TextEncoder().encode(text),
});
const parts = (envelope: Envelope) => unbundle(envelope)?.map((part) => ({ ...part, body: Buffer.from(part.body).toString() }));

test('neighbours of one subject travel as one message, and come out as they went in', () => {
  const sent = [message('1', '{"a":"\\nü"}'), message('2', '{}'), message('3', '{}', 'facts.b'), message('4', '[]')];
  const [together, alone, last, ...none] = bundle(sent);
  expect(none).toEqual([]);
  expect(parts(together as Envelope)).toEqual(sent.slice(0, 2).map((part) => ({ ...part, body: Buffer.from(part.body).toString() })));
  expect([alone, last]).toEqual(sent.slice(2));
  expect(unbundle(alone as Envelope)).toBeUndefined();
  expect(together).toMatchObject({ subject: 'facts.a', headers: { [BUNDLE_HEADER]: '2' } });
  // The id follows from the parts: the same bundle again is the same message, another one is not.
  expect(bundle(sent)[0]?.id).toBe(together?.id);
  expect(bundle([message('1', '{}'), message('3', '{}')])[0]?.id).not.toBe(together?.id);
});

test('bodies of several lines, and what would become too big, stay apart', () => {
  const lines = [message('1', '{\n}'), message('2', '{}'), message('3', '{}')];
  expect(bundle(lines).map((each) => parts(each)?.length)).toEqual([undefined, 2]);
  const big = [1, 2, 3].map((id) => message(String(id), JSON.stringify('x'.repeat(100_000))));
  expect(bundle(big).map((each) => parts(each)?.length)).toEqual([2, undefined]);
});

test('what is cut off or was made by somebody else is refused as a whole', () => {
  const [together] = bundle([message('1', '{}'), message('2', '{}')]) as [Envelope];
  for (const body of [
    together.body.subarray(0, -1),
    together.body.subarray(0, together.body.indexOf(0x0a, 60)),
    Buffer.from('1\n2\n3\n4\n'),
    Buffer.from('no\n2\nno\n4\n'),
  ])
    expect(() => unbundle({ ...together, body })).toThrow(SyntaxError);
  expect(() => unbundle({ ...together, headers: { [BUNDLE_HEADER]: '0' }, body: new Uint8Array() })).toThrow(SyntaxError);
  expect(() => unbundle({ ...together, headers: { [BUNDLE_HEADER]: '3' } })).toThrow('a bundle of 3 messages holds 2');
});
