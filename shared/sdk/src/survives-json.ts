import type { Checkpoint, Reject, Skip } from './outcome.ts';

/**
 * Items and effects travel as JSON. These types hold the compiler to it: a field that would not come back the same has
 * a type nothing can be assigned to, so the error stands at that field and names the reason.
 */
export interface NotJson<Reason extends string> {
  readonly '~does not survive JSON': Reason;
}

type IsAny<T> = 0 extends 1 & T ? true : false;

/** T where it survives JSON; NotJson in the places where it does not. `any` and `unknown` are left to the check at run time. */
export type SurvivesJson<T> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? T
      : T extends string | number | boolean | null
        ? T
        : // biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement gives void.
          T extends undefined | void
          ? NotJson<'undefined is lost: use null, or an optional field'>
          : T extends bigint
            ? NotJson<'a bigint cannot be written: use a string'>
            : T extends symbol
              ? NotJson<'a symbol is lost'>
              : T extends Date
                ? NotJson<'a Date comes back as a string: use date.toISOString()'>
                : T extends (...args: never[]) => unknown
                  ? NotJson<'a function is lost'>
                  : T extends ReadonlyMap<unknown, unknown> | ReadonlySet<unknown> | WeakMap<object, unknown> | WeakSet<object>
                    ? NotJson<'a Map or Set comes back empty: use an array or a plain object'>
                    : T extends ArrayBuffer | ArrayBufferView | RegExp | Error | PromiseLike<unknown>
                      ? NotJson<'a class instance does not come back as one: use plain data'>
                      : T extends readonly unknown[]
                        ? { [K in keyof T]: SurvivesJson<T[K]> }
                        : // An optional field may be absent, which JSON keeps.
                          {
                            [K in keyof T]: K extends symbol
                              ? NotJson<'a symbol is lost'>
                              : Pick<T, K> extends Required<Pick<T, K>>
                                ? SurvivesJson<T[K]>
                                : SurvivesJson<Exclude<T[K], undefined>> | undefined;
                          };

/** What the item source yields besides checkpoints. */
export type ItemOf<Yielded> = Exclude<Yielded, Checkpoint>;

/** What `process` gives besides skips and rejections, its promise unwrapped. */
export type EffectOf<Returned> = Exclude<Awaited<Returned>, Skip | Reject>;

export type CheckYielded<Yielded> = SurvivesJson<ItemOf<Yielded>> | Checkpoint;

type CheckEffect<Returned> = SurvivesJson<EffectOf<Returned>> | Skip | Reject;
export type CheckReturned<Returned> = CheckEffect<Returned> | PromiseLike<CheckEffect<Returned>>;
