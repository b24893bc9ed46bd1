import { describe, expect, it } from '@jest/globals';
import { noCounts, OUTCOMES } from '@millrace/core';
import { exitCodeOf } from './describe-failure.ts';
import { exitCodeOfVerdict, worstExitCode } from './exit-codes.ts';
import { clean, duration, tableOf } from './output.ts';
import { equationOf } from './run-report.ts';
import { paramsOf, timeoutOf } from './usage.ts';

describe('what the command line prints', () => {
  it('prints an equation whose right side adds up to its left', () => {
    const counts = { planned: 138_398, ...noCounts(), applied: 138_000, skipped: 390, rejected: 8 };
    const text = equationOf(counts);
    expect(text).toBe('planned 138,398 = applied 138,000 + skipped 390 + rejected 8');
    const numbers = text.match(/[\d,]+/g)?.map((one) => Number(one.replaceAll(',', ''))) ?? [];
    expect(numbers.slice(1).reduce((a, b) => a + b, 0)).toBe(numbers[0]);
    for (const outcome of OUTCOMES) expect(equationOf({ planned: 1, ...noCounts(), [outcome]: 1 })).toBe(`planned 1 = ${outcome} 1`);
  });

  it('names open items, and says zero of an empty run', () => {
    expect(equationOf({ planned: 3, ...noCounts(), applied: 1 }, 2)).toBe('planned 3 = applied 1 + open 2');
    expect(equationOf({ planned: 0, ...noCounts() })).toBe('planned 0 = 0');
  });

  it('keeps control sequences of foreign texts from the terminal', () => {
    expect(clean('a\u001b[31mred\u001b[0m\nb\u0007')).toBe('ared b ');
    expect(tableOf([{ key: 'x\u001b]0;owned\u0007y\nz' }], ['key'])).not.toMatch(/[\u001b\u0007]/);
  });

  it('aligns numbers to the right', () => {
    expect(
      tableOf(
        [
          { n: 5, t: 'a' },
          { n: 1200, t: 'b' },
        ],
        ['n', 't'],
      ),
    ).toBe(['    N  T', '    5  a', '1,200  b'].join('\n'));
  });

  it('writes durations in the unit a person would take', () => {
    expect([12, 1_500, 61_000, 3_660_000].map(duration)).toEqual(['12 ms', '1.5 s', '1 min 1 s', '1 h 1 min']);
  });
});

describe('exit codes', () => {
  it('follow the verdict', () => {
    expect(['succeeded', 'partial', 'failed', 'expired', 'cancelled'].map(exitCodeOfVerdict)).toEqual([0, 6, 5, 5, 7]);
  });
  it('of several runs are that of the worst', () => {
    expect(worstExitCode(['succeeded', 'partial', 'failed'])).toBe(5);
    expect(worstExitCode(['partial', 'succeeded'])).toBe(6);
    expect(worstExitCode([])).toBe(0);
  });
  it('tell kinds of errors apart', async () => {
    const { MillraceError } = await import('@millrace/core');
    expect(
      (['MR2009', 'MR2004', 'MR2006', 'MR3002', 'MR4003', 'MR3012'] as const).map((code) => exitCodeOf(new MillraceError(code, 'x'))),
    ).toEqual([2, 3, 10, 4, 9, 1]);
    expect(exitCodeOf(new Error('x'))).toBe(1);
  });
});

describe('arguments', () => {
  it('takes parameters as JSON where they read as such, and keeps the rest as text', () => {
    expect(paramsOf(['n=3', 'name=Ann', 'on=true', 'expr=a=b', 'list=[1]'])).toEqual({
      n: 3,
      name: 'Ann',
      on: true,
      expr: 'a=b',
      list: [1],
    });
    expect(() => paramsOf(['novalue'])).toThrow(/MR2009/);
    expect(Object.keys(paramsOf(['__proto__=1']))).toEqual(['__proto__']);
  });
  it('refuses a timeout that is no duration', () => {
    expect(timeoutOf('90s')).toBe(90_000);
    expect(timeoutOf(undefined)).toBeUndefined();
    expect(() => timeoutOf('soon')).toThrow(/MR2009/);
  });
});
