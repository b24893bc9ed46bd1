import { describe, expect, test } from '@jest/globals';
import { LightController, LightSignal } from './signals.ts';

interface Signals {
  readonly Controller: typeof AbortController;
  readonly any: typeof AbortSignal.any;
}

const STANDARD: Signals = { Controller: AbortController, any: (signals) => AbortSignal.any(signals) };
const LIGHT: Signals = {
  Controller: LightController as unknown as typeof AbortController,
  any: LightSignal.any as unknown as typeof AbortSignal.any,
};

/** The same calls to both; what they did, in order. */
function told(signals: Signals, script: (signals: Signals, note: (what: unknown) => void) => void): unknown[] {
  const notes: unknown[] = [];
  script(signals, (what) => notes.push(what));
  return notes;
}

const SCRIPTS: Readonly<Record<string, (signals: Signals, note: (what: unknown) => void) => void>> = {
  'listeners are told once, in order, and not when they are added too late': ({ Controller }, note) => {
    const one = new Controller();
    const twice = () => note('twice');
    one.signal.addEventListener('abort', () => note(`first ${one.signal.aborted} ${one.signal.reason}`));
    one.signal.addEventListener('abort', twice);
    one.signal.addEventListener('abort', twice, { once: true });
    note(one.signal.aborted);
    one.abort('why');
    one.abort('again');
    one.signal.addEventListener('abort', () => note('late'));
    note(one.signal.reason);
  },
  'a listener that is removed is not told, whenever that was': ({ Controller }, note) => {
    const one = new Controller();
    const second = () => note('second');
    const third = () => note('third');
    one.signal.addEventListener('abort', () => one.signal.removeEventListener('abort', third));
    one.signal.addEventListener('abort', second);
    one.signal.addEventListener('abort', third);
    one.signal.removeEventListener('abort', second);
    one.abort();
    note((one.signal.reason as Error).name);
  },
  'a combined signal follows the first source that is aborted': ({ Controller, any }, note) => {
    const [one, other] = [new Controller(), new Controller()];
    const both = any([one.signal, other.signal]);
    const unheard = any([one.signal, other.signal]);
    both.addEventListener('abort', () => note(`both ${both.reason} ${one.signal.aborted}`));
    other.signal.addEventListener('abort', () => note('other'));
    other.abort('other');
    one.abort('one');
    note([both.reason, unheard.aborted, unheard.reason]);
  },
  'combined signals can be combined, also when they are aborted already': ({ Controller, any }, note) => {
    const [one, other] = [new Controller(), new Controller()];
    const nested = any([any([one.signal]), other.signal]);
    nested.addEventListener('abort', () => note('nested'));
    one.abort('one');
    const late = any([other.signal, nested]);
    late.addEventListener('abort', () => note('late'));
    note([late.aborted, late.reason]);
    try {
      late.throwIfAborted();
    } catch (reason) {
      note(reason);
    }
    other.signal.throwIfAborted();
  },
  'whoever has stopped listening to a combined signal hears nothing of it': ({ Controller, any }, note) => {
    const one = new Controller();
    const combined = any([one.signal]);
    const listener = () => note('heard');
    combined.addEventListener('abort', listener);
    combined.removeEventListener('abort', listener);
    one.abort();
    note(combined.aborted);
  },
};

describe('light signals do what those of the runtime do', () => {
  test.each(Object.entries(SCRIPTS))('%s', (_, script) => {
    const expected = told(STANDARD, script);
    expect(expected.length).toBeGreaterThan(0);
    expect(told(LIGHT, script)).toEqual(expected);
  });
});
