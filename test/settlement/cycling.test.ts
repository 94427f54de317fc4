import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { secp256k1 } from '@fulmen/crypto/default';
import { TIMEOUT_CONFIRMED_WITHIN_BLOCKS } from '@fulmen/settlement/constants';
import { playCycling } from './cycling.ts';
import { FleetSigner } from './fleet-signer.ts';
import { fleetKeys } from './policy-signer.ts';
import { OUTBOUND_EXPIRY_HEIGHT } from './scenario.ts';

let signer: FleetSigner;
beforeAll(async () => {
  signer = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
});
afterAll(() => signer.stop());

const DEADLINE_HEIGHT = OUTBOUND_EXPIRY_HEIGHT + TIMEOUT_CONFIRMED_WITHIN_BLOCKS;
/** Five times what the attack could ever win. */
const BUDGET_SAT = 250_000n;

describe.each(['holder', 'counterparty'] as const)(
  'replacement cycling on the %s’s commitment',
  (commitment) => {
    test('the claim confirms before its deadline, and its fee never falls before it', async () => {
      const outcome = await playCycling(signer, { commitment, budgetSat: BUDGET_SAT, looks: 'unseen' });
      expect(outcome.cycles).toBeGreaterThan(3);
      expect(outcome.spentSat).toBeGreaterThan(outcome.htlcSat);
      expect(outcome.claimedHeight).toBeDefined();
      expect(outcome.claimedHeight).toBeLessThan(DEADLINE_HEIGHT);
      expect(outcome.feeratesSatPerKw).toEqual(outcome.feeratesSatPerKw.toSorted((a, b) => a - b));
      expect(outcome.upstream).toBe('failed_here');
    });

    test('a preimage seen in the mempool is used upstream at once, though the cycle takes it back', async () => {
      const outcome = await playCycling(signer, { commitment, budgetSat: BUDGET_SAT, looks: 'seen' });
      expect(outcome.upstreamAfterCycle).toBe('fulfilled');
      expect(outcome.upstream).toBe('fulfilled');
      expect(outcome.claimedHeight).toBeLessThan(DEADLINE_HEIGHT);
    });
  },
);
