import { sha256 } from '@fulmen/crypto';
import { expect, test } from 'vitest';
import { spontaneousPaymentParameters } from './spontaneousParameters.ts';

const PREIMAGE = new Uint8Array(32).fill(4);

test('a payment without an invoice brings its preimage in one part, whatever the payer allows', () => {
  const payment = { payee: new Uint8Array(33).fill(2), amountMsat: 1_000_000_000n, preimage: PREIMAGE };
  const parameters = spontaneousPaymentParameters(payment, { maxFeeMsat: 5n, maxParts: 16 }, 1_000);
  expect(parameters).toMatchObject({
    paymentHash: sha256(PREIMAGE),
    final: { keysendPreimage: PREIMAGE },
    maxParts: 1,
    hints: [],
  });
  // No payment secret: a payee could tell no part from a stranger's.
  expect(parameters.final.paymentData).toBeUndefined();
});
