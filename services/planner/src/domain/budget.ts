import type { Instant } from '@millrace/core';

/** A token bucket that is filled by work done, and a little by time. Pure: who holds it passes the time. */
export interface Budget {
  readonly tokens: number;
  readonly at: Instant;
}

export interface BudgetPolicy {
  /** Tokens earned per unit of work: 0.1 allows a tenth of it. */
  readonly share: number;
  /** Tokens earned per second without any work, so that a standstill ends. */
  readonly perSecond: number;
  /** Most tokens held, and how many there are at first. */
  readonly burst: number;
}

export function openBudget(policy: BudgetPolicy, now: Instant): Budget {
  return { tokens: policy.burst, at: now };
}

/** The budget after `work` was done up to `now`. A clock that steps back earns nothing. */
export function earn(policy: BudgetPolicy, budget: Budget, work: number, now: Instant): Budget {
  const seconds = Math.max(0, now - budget.at) / 1_000;
  // Debt is paid off first: a burst holds for what was earned, not for what was overdrawn.
  return { tokens: Math.min(policy.burst, budget.tokens + work * policy.share + seconds * policy.perSecond), at: Math.max(now, budget.at) };
}

/** Whole tokens that may be spent now. */
export function affordable(budget: Budget): number {
  return Math.max(0, Math.floor(budget.tokens));
}

/** What was spent may exceed what was there by the size of one piece; then the debt is earned back first. */
export function spend(budget: Budget, tokens: number): Budget {
  return { ...budget, tokens: budget.tokens - tokens };
}
