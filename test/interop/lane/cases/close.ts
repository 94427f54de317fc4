/** Channels that end: together, by either side alone, after a breach, after lost data. */
import type { Case } from '../case.ts';
import { BREACH_CASES } from './breach.ts';
import { COOPERATIVE_CASES } from './cooperative.ts';
import { FORCE_CASES } from './force.ts';
import { SET_BACK_CASES } from './set-back.ts';

export const CLOSE_CASES: readonly Case[] = [
  ...COOPERATIVE_CASES,
  ...FORCE_CASES,
  ...BREACH_CASES,
  ...SET_BACK_CASES,
];
