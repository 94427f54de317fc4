/** Amounts, expiry and features of an invoice decide whether it may be paid. */
import { expect, test } from 'vitest';
import { FeatureBits } from '@fulmen/codec';
import type { Invoice } from '@fulmen/invoice';
import type { PayerLimits } from './invoiceParameters.ts';
import { FINAL_CLTV_SAFETY, invoicePaymentParameters } from './invoiceParameters.ts';

const NOW = 1_700_000_000;
const INVOICE: Invoice = {
  currency: 'bcrt',
  amountMsat: 1_000n,
  timestampUnixSeconds: NOW - 3_600,
  paymentHash: new Uint8Array(32).fill(1),
  paymentSecret: new Uint8Array(32).fill(2),
  description: { kind: 'text', text: '' },
  features: FeatureBits.of({ payment_secret: 'required' }),
  fallbacks: [],
  routeHints: [],
  unknownFields: [],
  payeeNodeId: new Uint8Array(33).fill(2),
  signature: new Uint8Array(64),
  recoveryId: 0,
  signedHash: new Uint8Array(32),
  paymentMetadata: Uint8Array.of(7),
};

function ask(changes: Partial<Invoice>, limits: Partial<PayerLimits> = {}, nowSeconds = NOW) {
  return invoicePaymentParameters(
    { ...INVOICE, ...changes },
    'bcrt',
    { maxFeeMsat: 5n, ...limits },
    nowSeconds,
  );
}

test('carries the invoice’s terms', () => {
  expect(ask({})).toMatchObject({
    ok: true,
    value: {
      amountMsat: 1_000n,
      finalCltvDelta: 18 + FINAL_CLTV_SAFETY,
      final: {
        paymentData: { paymentSecret: INVOICE.paymentSecret, totalMsat: 1_000n },
        paymentMetadata: Uint8Array.of(7),
      },
    },
  });
  expect(ask({ amountMsat: undefined }, { amountMsat: 77n })).toMatchObject({
    ok: true,
    value: { amountMsat: 77n },
  });
  expect(ask({}, { amountMsat: 2_000n }).ok).toBe(true);
});

test('carries the invoice’s route hints: without them a payee behind unannounced channels is not found', () => {
  const hint = {
    nodeId: new Uint8Array(33).fill(3),
    shortChannelId: 5n,
    feeBaseMsat: 1,
    feeProportionalMillionths: 2,
    cltvExpiryDelta: 40,
  };
  expect(ask({ routeHints: [[hint]] })).toMatchObject({ ok: true, value: { hints: [[hint]] } });
});

test.each([
  ['expired', {}, {}, NOW + 1],
  ['wrong_network', { currency: 'bc' }, {}, NOW],
  ['amount_required', { amountMsat: undefined }, {}, NOW],
  ['amount_too_low', {}, { amountMsat: 999n }, NOW],
  ['amount_too_high', {}, { amountMsat: 2_001n }, NOW],
  ['unknown_required_feature', { features: FeatureBits.fromBits([1_000]) }, {}, NOW],
] as const)('refuses: %s', (error, changes, limits, now) => {
  expect(ask(changes, limits, now)).toEqual({ ok: false, error });
});
