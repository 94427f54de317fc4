/** Payments and routes that the tests of payment attempts begin with. */
import { expect } from 'vitest';
import { sha256 } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { syntheticKey } from '@fulmen/graph/synthetic';
import { type FailureMessage } from '@fulmen/onion/failure-message';
import type { PaymentInput, PaymentParameters, PaymentState, PaymentTransition } from '../attempt.ts';
import { startPayment, stepPayment } from '../attempt.ts';
import type { Route } from '../route.ts';

export const secp = fakeSecp256k1;
export const NOW = 1_700_000_000;
export const preimage = new Uint8Array(32).fill(9);
export const node = (key: number): Uint8Array => secp.publicKeyOf(syntheticKey(key));

export const PARAMETERS: PaymentParameters = {
  paymentHash: sha256(preimage),
  payee: node(3),
  amountMsat: 1_000n,
  finalCltvDelta: 18,
  shadowCltvDelta: 0,
  final: { paymentData: { paymentSecret: new Uint8Array(32), totalMsat: 1_000n } },
  hints: [],
  maxFeeMsat: 100n,
  maxCltvDelta: 1008,
  maxAttempts: 3,
  deadlineSeconds: NOW + 60,
  maxParts: 1,
  minPartMsat: 100n,
};

export function hop(key: number, shortChannelId: bigint, amountMsat: bigint) {
  return {
    nodeId: node(key),
    shortChannelId,
    direction: 0,
    amountMsat,
    cltvExpiryHeight: 800_000,
    capacityMsat: 10_000n,
    policyTimestamp: NOW,
  } as const;
}

/** Us → 1 → 2 → 3, over channels 10, 11, 12. */
export const ROUTE: Route = {
  hops: [hop(1, 10n, 1_020n), hop(2, 11n, 1_010n), hop(3, 12n, 1_000n)],
  amountMsat: 1_000n,
  feeMsat: 20n,
};
export function routesFound(...routes: readonly Route[]): PaymentInput {
  const sessionKeys = routes.map(() => new Uint8Array(32).fill(1));
  return { type: 'routes_found', routes, sessionKeys, nowSeconds: NOW };
}
export const ROUTE_FOUND = routesFound(ROUTE);

export function step(state: PaymentState, input: PaymentInput): PaymentTransition {
  const result = stepPayment(secp, state, input);
  if (!result.ok) return expect.unreachable(result.error);
  return result.value;
}

export function inFlight(parameters: PaymentParameters = PARAMETERS): PaymentState {
  return step(startPayment(parameters).state, ROUTE_FOUND).state;
}

/** Number of the latest attempt. */
export const latest = (state: PaymentState): number => state.lessons.attempts;

export function failAt(hopIndex: number, failure: FailureMessage, state = inFlight()): PaymentTransition {
  return step(state, {
    type: 'htlc_failed',
    attemptNumber: latest(state),
    failure: { kind: 'failure', hopIndex, failure },
    nowSeconds: NOW,
  });
}

export const NO_UPDATE = new Uint8Array(0);
