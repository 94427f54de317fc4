/** Every case of the lane, in the order of the matrix. */
import type { Case } from '../case.ts';
import { CONNECT_CASES } from './connect.ts';
import { OPEN_CASES } from './open.ts';
import { PAY_CASES } from './pay.ts';

export const CASES: readonly Case[] = [...CONNECT_CASES, ...OPEN_CASES, ...PAY_CASES];
