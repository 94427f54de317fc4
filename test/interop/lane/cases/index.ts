/** Every case of the lane, in the order of the matrix. */
import type { Case } from '../case.ts';
import { CLOSE_CASES } from './close.ts';
import { CONNECT_CASES } from './connect.ts';
import { FORWARD_CASES } from './forward.ts';
import { REPLACED } from './funding.ts';
import { GOSSIP_CASES } from './gossip.ts';
import { OPEN_CASES } from './open.ts';
import { PAY_CASES } from './pay.ts';
import { RECONNECT_CASES } from './reconnect.ts';

export const CASES: readonly Case[] = [
  ...CONNECT_CASES,
  ...OPEN_CASES,
  ...PAY_CASES,
  ...FORWARD_CASES,
  ...RECONNECT_CASES,
  ...CLOSE_CASES,
  ...GOSSIP_CASES,
  REPLACED,
];
