import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { secp256k1 } from '@fulmen/crypto/default';
import { type Case, FORMATS, SLICE, nameOf } from './cases.ts';
import { FleetSigner } from './fleet-signer.ts';
import { fleetKeys } from './policy-signer.ts';
import { runCase } from './run-case.ts';

let signer: FleetSigner;
beforeAll(async () => {
  signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
});
afterAll(() => signer.stop());

async function endsWell(one: Case): Promise<void> {
  expect((await runCase(one, signer)).faults).toEqual([]);
}

describe('every satoshi is where BOLT 5 says, upstream is told, and nothing is pending', () => {
  test.each(SLICE.map((one) => [nameOf(one), one] as const))('%s', (_, one) => endsWell(one));
});

const BASE = { format: 'anchors', feerate: 'calm', fault: 'none' } as const;
const UNREVOKED = ['holder', 'counterparty', 'counterparty_next'] as const;
const ALL = [...UNREVOKED, 'revoked_1', 'revoked_100'] as const;

describe('an HTLC is its channel, direction and id: identical ones each end for themselves', () => {
  test.each(ALL)('on a %s commitment, when one of them is claimed', (commitment) =>
    endsWell({ ...BASE, commitment, htlcs: 'identical', knowledge: 'late_block' }),
  );
});

describe('nothing fails upstream while its preimage is known, whatever dies and comes back', () => {
  const known = UNREVOKED.flatMap((commitment) =>
    (['known', 'late_mempool'] as const).map((knowledge) => [commitment, knowledge] as const),
  );
  test.each(known)('on a %s commitment, preimage %s', (commitment, knowledge) =>
    endsWell({ ...BASE, commitment, htlcs: 'offered', knowledge, fault: 'restart' }),
  );
});

describe('preimages are read from the union of all unrevoked commitments', () => {
  test.each(UNREVOKED)('from what spends a %s commitment, while others could have confirmed', (commitment) =>
    endsWell({ ...BASE, commitment, htlcs: 'received', knowledge: 'late_block' }),
  );
});

describe('after every block no pending claim has a spent input', () => {
  test.each(ALL)('on a %s commitment, reorganised after each confirmation', (commitment) =>
    endsWell({ ...BASE, commitment, htlcs: 'identical', knowledge: 'late_block', fault: 'reorg' }),
  );
});

describe('the mempool accepts every transaction that the fleet holds', () => {
  const held = FORMATS.flatMap((format) =>
    (['offered', 'received'] as const).map((htlcs) => [format, htlcs] as const),
  );
  test.each(held)('%s: the commitment, the second stages of what was %s, and what follows', (format, htlcs) =>
    endsWell({
      ...BASE,
      format,
      commitment: 'holder',
      htlcs,
      knowledge: htlcs === 'offered' ? 'unknown' : 'known',
    }),
  );
});

describe('an HTLC that is worth less than its claim holds up nothing, and costs no channel upstream', () => {
  const tiny = UNREVOKED.flatMap((commitment) =>
    (['unknown', 'known'] as const).map((knowledge) => [commitment, knowledge] as const),
  );
  test.each(tiny)('on a %s commitment, preimage %s', (commitment, knowledge) =>
    endsWell({ ...BASE, commitment, htlcs: 'tiny', knowledge }),
  );
  test('as long as fees are high', () =>
    endsWell({ ...BASE, commitment: 'holder', htlcs: 'tiny', knowledge: 'unknown', feerate: 'spiking' }));
});
