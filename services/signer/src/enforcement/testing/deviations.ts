/** An honest channel's requests, and the single deviations from them. */
import { secp256k1 as secp } from '@fulmen/crypto/default';
import fc from 'fast-check';
import { type Change, HonestChannel, type Side, testParties } from '../../testing/channel.ts';
import { PureSigner } from '../../testing/pure-signer.ts';
import type { SignItemRequest } from '../types.ts';

export const parties = testParties(secp);
export const SIDES: readonly Side[] = ['alice', 'bob'];

export const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    type: fc.constant('add' as const),
    by: fc.constantFrom(...SIDES),
    amountMsat: fc.bigInt(1n, 600_000_000n),
  }),
  fc.record({ type: fc.constantFrom('fulfill' as const, 'fail' as const), index: fc.nat(20) }),
  fc.record({ type: fc.constant('fee' as const), feerateSatPerKw: fc.integer({ min: 253, max: 5_000 }) }),
);
export const steps = fc.array(fc.tuple(fc.constantFrom(...SIDES), change), { minLength: 1, maxLength: 12 });

export async function played(
  list: readonly (readonly [Side, Change])[],
  format: 'anchors' | 'static_remotekey' = 'anchors',
) {
  const signer = new PureSigner(secp, parties, format);
  const channel = new HonestChannel(secp, parties, (side, request) =>
    Promise.resolve(signer.execute(side, request)),
  );
  await channel.open();
  for (const [by, what] of list) await channel.step(by, what);
  return { signer, channel };
}

export const addTwo: readonly (readonly [Side, Change])[] = [
  ['alice', { type: 'add', by: 'alice', amountMsat: 50_000_000n }],
  ['bob', { type: 'add', by: 'bob', amountMsat: 70_000_000n }],
];

export function withSpec(
  request: SignItemRequest,
  map: (spec: NonNullable<SignItemRequest['counterpartyCommitment']>['spec']) => typeof spec,
): SignItemRequest {
  const { counterpartyCommitment } = request;
  return counterpartyCommitment === undefined
    ? request
    : {
        ...request,
        counterpartyCommitment: { ...counterpartyCommitment, spec: map(counterpartyCommitment.spec) },
      };
}

export type Spec = NonNullable<SignItemRequest['counterpartyCommitment']>['spec'];

export function withOutbound(spec: Spec, count: number, amountMsat: bigint): Spec {
  const more = Array.from({ length: count }, (_, i) => ({
    direction: 'outbound' as const,
    id: 1_000n + BigInt(i),
    amountMsat,
    paymentHash: new Uint8Array(32),
    cltvExpiryHeight: 700,
  }));
  return {
    ...spec,
    toHolderMsat: spec.toHolderMsat - BigInt(count) * amountMsat,
    htlcs: [...spec.htlcs, ...more],
  };
}

export function withHolderSpec(request: SignItemRequest, map: (spec: Spec) => Spec): SignItemRequest {
  const { holderCommitment } = request;
  return holderCommitment === undefined
    ? request
    : { ...request, holderCommitment: { ...holderCommitment, spec: map(holderCommitment.spec) } };
}

export type Signatures = NonNullable<SignItemRequest['holderCommitment']>['signatures'][number];

export function withSignatures(
  request: SignItemRequest,
  map: (signatures: Signatures) => Signatures,
): SignItemRequest {
  const { holderCommitment } = request;
  return holderCommitment === undefined
    ? request
    : {
        ...request,
        holderCommitment: { ...holderCommitment, signatures: holderCommitment.signatures.map(map) },
      };
}
