/** The same ends when chain-monitor's source shows of each block only what was registered, as Esplora does. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { secp256k1 } from '@fulmen/crypto/default';
import { type Case, nameOf } from './cases.ts';
import { FleetSigner } from './fleet-signer.ts';
import { fleetKeys } from './policy-signer.ts';
import { runCase } from './run-case.ts';

let signer: FleetSigner;
beforeAll(async () => {
  signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
});
afterAll(() => signer.stop());

const BASE = { format: 'anchors', feerate: 'calm', sees: 'registered' } as const;
const CASES: readonly Case[] = [
  { ...BASE, commitment: 'holder', htlcs: 'offered', knowledge: 'late_block', fault: 'reorg' },
  { ...BASE, commitment: 'holder', htlcs: 'received', knowledge: 'known', fault: 'none' },
  { ...BASE, commitment: 'counterparty', htlcs: 'identical', knowledge: 'late_mempool', fault: 'restart' },
  { ...BASE, commitment: 'counterparty_next', htlcs: 'offered', knowledge: 'unknown', fault: 'none' },
  { ...BASE, commitment: 'revoked_1', htlcs: 'identical', knowledge: 'late_block', fault: 'reorg' },
  { ...BASE, commitment: 'revoked_100', htlcs: 'received', knowledge: 'unknown', fault: 'restart' },
];

describe('every satoshi is where BOLT 5 says, seen through a filter', () => {
  test.each(CASES.map((one) => [nameOf(one), one] as const))('%s', async (_, one) => {
    expect((await runCase(one, signer)).faults).toEqual([]);
  });
});
