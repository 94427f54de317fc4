/** Which outputs a mutual close may lack (BOLT 3, "Legacy Closing Transaction"). */
import { buildClosingTransaction, maximumClosingFeeSat } from '@fulmen/channel/commitment/closing';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { expect, test } from 'vitest';
import { FUNDING_SAT, type Side } from '../testing/channel.ts';
import { signClosing } from './closing.ts';
import { parties, played } from './testing/deviations.ts';

const MAXIMUM_FEE_SAT = maximumClosingFeeSat([parties.alice.walletScript, parties.bob.walletScript]);

interface Closing {
  /** Alice funds. */
  readonly holder: Side;
  readonly holderBalanceMsat: bigint;
  readonly counterpartyDustLimitSat: bigint;
  readonly feeSat: bigint;
  readonly toHolderSat?: bigint;
  readonly toCounterpartySat?: bigint;
}

/** What the signer makes of a close of a channel with these balances: `signed`, or the policy that refuses. */
async function outcome(closing: Closing): Promise<string> {
  const { signer } = await played([]);
  const { holder, holderBalanceMsat, counterpartyDustLimitSat, feeSat } = closing;
  const before = signer.states[holder];
  const balances = {
    toHolderMsat: holderBalanceMsat,
    toCounterpartyMsat: 1000n * FUNDING_SAT - holderBalanceMsat,
  };
  const counterparty = { ...before.registration.counterparty, dustLimitSat: counterpartyDustLimitSat };
  const state = {
    ...before,
    registration: { ...before.registration, counterparty },
    holderCommitments: before.holderCommitments.map((record) => ({ ...record, ...balances })),
    counterpartyCommitments: before.counterpartyCommitments.map((record) => ({ ...record, ...balances })),
  };
  const counterpartySat = FUNDING_SAT - (holderBalanceMsat + 999n) / 1000n;
  const request = {
    toHolderSat: holderBalanceMsat / 1000n - (holder === 'alice' ? feeSat : 0n),
    toCounterpartySat: counterpartySat - (holder === 'alice' ? 0n : feeSat),
    ...closing,
    holderScript: parties[holder].walletScript,
    counterpartyScript: parties[holder === 'alice' ? 'bob' : 'alice'].walletScript,
  };
  const signed = signClosing(signer.contexts[holder], state, request, parties[holder].walletScript);
  if (!signed.ok) return signed.error.policy;
  const { funding } = state.registration;
  const built = buildClosingTransaction({ funding, closing: request, dustLimitSat: 354n });
  const isValid =
    built.ok && secp.verify(built.value.sighash, signed.value.signature, funding.holderFundingPubkey);
  return isValid ? 'signed' : 'signed something else';
}

const FUNDEE = { holder: 'bob', feeSat: 1_000n, toHolderSat: 0n } as const;

test.each<[string, Closing, string]>([
  [
    'below the counterparty’s dust limit',
    { ...FUNDEE, holderBalanceMsat: 400_999n, counterpartyDustLimitSat: 546n },
    'signed',
  ],
  [
    'below it once the fee is paid',
    { ...FUNDEE, holder: 'alice', holderBalanceMsat: 1_400_000n, counterpartyDustLimitSat: 546n },
    'signed',
  ],
  [
    'of that limit',
    { ...FUNDEE, holderBalanceMsat: 546_000n, counterpartyDustLimitSat: 546n },
    'policy-mutual-value',
  ],
  [
    'above it',
    { ...FUNDEE, holderBalanceMsat: 400_000n, counterpartyDustLimitSat: 354n },
    'policy-mutual-value',
  ],
  [
    'below it, and there with less',
    { ...FUNDEE, toHolderSat: 399n, holderBalanceMsat: 400_000n, counterpartyDustLimitSat: 546n },
    'policy-mutual-value',
  ],
])('the holder’s output is left out where it is %s', async (_, closing, expected) => {
  expect(await outcome(closing)).toBe(expected);
});

test.each([
  [9_999n, 'signed'],
  [10_000n, 'policy-mutual-fee-range'],
])('an output of the counterparty’s of %s sat is left out beside the highest fee', async (sat, expected) => {
  const closing: Closing = {
    holder: 'alice',
    holderBalanceMsat: 1000n * (FUNDING_SAT - sat),
    counterpartyDustLimitSat: 354n,
    feeSat: MAXIMUM_FEE_SAT,
    toCounterpartySat: 0n,
  };
  expect(await outcome(closing)).toBe(expected);
});
