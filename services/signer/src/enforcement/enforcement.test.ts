import { secp256k1 as secp } from '@fulmen/crypto/default';
import { decodeTx } from '@fulmen/bitcoin';
import { commitmentPoint, commitmentSecret } from '@fulmen/keys';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EMPTY_ITEM, HonestChannel, type Side, other, specFor } from '../testing/channel.ts';
import { PureSigner } from '../testing/pure-signer.ts';
import { signClosing } from './closing.ts';
import { decodeChannel, encodeRegistration, encodeState } from './codec.ts';
import { signHolderCommitment } from './holder-commitment.ts';
import type { PolicyTag, SignItemRequest, SignerChannelState } from './types.ts';
import {
  parties,
  SIDES,
  steps,
  played,
  addTwo,
  withSpec,
  withOutbound,
  withHolderSpec,
  withSignatures,
} from './testing/deviations.ts';

describe('an honest channel', () => {
  test('is signed to its end, and every stored state reads back', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.constantFrom('anchors' as const, 'static_remotekey' as const),
        async (list, format) => {
          const { signer, channel } = await played(list, format);
          for (const side of SIDES) {
            const state = signer.states[side];
            expect(state.nextHolderCommitment).toBe(channel.number);
            expect(state.nextHolderRevocation).toBe(channel.number - 1n);
            expect(state.nextCounterpartyCommitment).toBe(channel.number);
            const read = decodeChannel(encodeRegistration(state.registration), encodeState(state));
            expect(read.ok && read.value).toEqual(state);
          }
        },
      ),
      { numRuns: 15 },
    );
  });

  test('an identical retry of the last request moves nothing and gives identical bytes', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const signer = new PureSigner(secp, parties);
        const channel = new HonestChannel(secp, parties, (side, request) => {
          const answer = signer.execute(side, request);
          const after = signer.states[side];
          expect(signer.execute(side, request)).toEqual(answer);
          expect(signer.states[side]).toBe(after);
          return Promise.resolve(answer);
        });
        await channel.open();
        for (const [by, what] of list) await channel.step(by, what);
      }),
      { numRuns: 8 },
    );
  });

  test('the stored bytes are stable, and no truncation decodes', async () => {
    const { signer } = await played(addTwo);
    const registration = encodeRegistration(signer.states.alice.registration);
    const state = encodeState(signer.states.alice);
    expect(state.length).toBeLessThan(600);
    for (let length = 0; length < state.length; length++)
      expect(decodeChannel(registration, state.subarray(0, length)).ok).toBe(false);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 800 }), (noise) => {
        const read = decodeChannel(registration, noise);
        if (read.ok) expect(encodeState(read.value)).toEqual(noise);
      }),
    );
  });
});

describe('each single deviation is refused', () => {
  /** The three requests of the next honest step, as alice proposes it. */
  async function nextStep() {
    const { signer, channel } = await played(addTwo);
    const number = channel.number;
    const content = channel.content;
    const alice: SignItemRequest = {
      ...EMPTY_ITEM,
      revocations: channel.pending.alice,
      ...channel.counterpartyCommitment('alice', content, number),
    };
    const bob = (): SignItemRequest => {
      const signed = signer.execute('alice', alice);
      return {
        ...EMPTY_ITEM,
        revocations: channel.pending.bob,
        ...channel.holderCommitment('bob', content, number, signed),
        releaseSecretNumber: number - 1n,
        ...channel.counterpartyCommitment('bob', content, number),
      };
    };
    return { signer, channel, number, content, alice, bob };
  }

  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 5 ? byte ^ 1 : byte));

  const counterpartyCases: [string, PolicyTag, (request: SignItemRequest) => SignItemRequest][] = [
    [
      'a number ahead',
      'policy-commitment-number',
      (r) => withSpec(r, (spec) => ({ ...spec, commitmentNumber: spec.commitmentNumber + 1n })),
    ],
    [
      'a number long gone',
      'policy-commitment-number',
      (r) => withSpec(r, (spec) => ({ ...spec, commitmentNumber: spec.commitmentNumber - 2n })),
    ],
    [
      'the last number with another content',
      'policy-commitment-retry-same',
      (r) =>
        withSpec(r, (spec) => ({
          ...spec,
          commitmentNumber: spec.commitmentNumber - 1n,
          feerateSatPerKw: 300,
        })),
    ],
    [
      'money from nowhere',
      'policy-commitment-value',
      (r) => withSpec(r, (spec) => ({ ...spec, toHolderMsat: spec.toHolderMsat + 1n })),
    ],
    [
      'money lost',
      'policy-commitment-value',
      (r) => withSpec(r, (spec) => ({ ...spec, toHolderMsat: spec.toHolderMsat - 1n })),
    ],
    [
      'an absurd feerate',
      'policy-commitment-fee-range',
      (r) => withSpec(r, (spec) => ({ ...spec, feerateSatPerKw: 1_000_000 })),
    ],
    [
      'a feerate below the floor',
      'policy-commitment-fee-range',
      (r) => withSpec(r, (spec) => ({ ...spec, feerateSatPerKw: 100 })),
    ],
    [
      'an HTLC twice',
      'policy-commitment-htlc-identity',
      (r) =>
        withSpec(r, (spec) => ({
          ...spec,
          toHolderMsat: spec.toHolderMsat - 50_000_000n,
          htlcs: [...spec.htlcs, ...spec.htlcs.filter((h) => h.direction === 'outbound')],
        })),
    ],
    [
      'an expiry that is a time',
      'policy-commitment-htlc-cltv-range',
      (r) =>
        withSpec(r, (spec) => ({
          ...spec,
          htlcs: spec.htlcs.map((h) => ({ ...h, cltvExpiryHeight: 500_000_000 })),
        })),
    ],
    [
      'too many HTLCs',
      'policy-commitment-htlc-count',
      (r) => withSpec(r, (spec) => withOutbound(spec, 10, 1_000_000n)),
    ],
    [
      'too much in flight',
      'policy-commitment-htlc-in-flight',
      (r) => withSpec(r, (spec) => withOutbound(spec, 1, 4_960_000_000n)),
    ],
    [
      'the own reserve spent',
      'policy-commitment-reserve',
      (r) =>
        withSpec(r, (spec) => ({
          ...spec,
          toCounterpartyMsat: spec.toCounterpartyMsat + spec.toHolderMsat,
          toHolderMsat: 0n,
        })),
    ],
    [
      'a wrong secret',
      'policy-revocation-secret',
      (r) => ({ ...r, revocations: r.revocations.map((one) => ({ ...one, secret: flip(one.secret) })) }),
    ],
    [
      'a secret out of order',
      'policy-revocation-order',
      (r) => ({
        ...r,
        revocations: r.revocations.map((one) => ({ ...one, commitmentNumber: one.commitmentNumber + 1n })),
      }),
    ],
    [
      'no secret of the commitment before the last',
      'policy-commitment-previous-revoked',
      (r) => ({ ...r, revocations: [] }),
    ],
    [
      'a point off the curve',
      'policy-malformed-request',
      (r) => ({
        ...r,
        counterpartyCommitment: r.counterpartyCommitment && {
          ...r.counterpartyCommitment,
          perCommitmentPoint: new Uint8Array(33).fill(2, 0, 1).fill(0xff, 1),
        },
      }),
    ],
    [
      'an ECDH point off the curve',
      'policy-malformed-request',
      (r) => ({ ...r, ecdhs: [{ publicKey: new Uint8Array(33), tweak: undefined }] }),
    ],
  ];

  test.each(counterpartyCases)('signing: %s', async (_name, policy, deviate) => {
    const { signer, alice } = await nextStep();
    const before = signer.states.alice;
    // Bob offered last, so alice has a secret to bring.
    expect(alice.revocations).toHaveLength(1);
    expect(signer.refusal('alice', deviate(alice))).toBe(policy);
    expect(signer.states.alice).toBe(before);
    expect(signer.refusal('alice', alice)).toBeUndefined();
  });

  const holderCases: [string, PolicyTag, (request: SignItemRequest) => SignItemRequest][] = [
    [
      'a signature changed',
      'policy-commitment-signature',
      (r) => withSignatures(r, (s) => ({ ...s, signature: flip(s.signature) })),
    ],
    [
      'an HTLC signature changed',
      'policy-commitment-signature',
      (r) => withSignatures(r, (s) => ({ ...s, htlcSignatures: s.htlcSignatures.map(flip) })),
    ],
    [
      'HTLC signatures missing',
      'policy-commitment-signature',
      (r) => withSignatures(r, (s) => ({ ...s, htlcSignatures: [] })),
    ],
    [
      'another funding',
      'policy-commitment-funding',
      (r) => withSignatures(r, (s) => ({ ...s, fundingTxid: flip(s.fundingTxid) })),
    ],
    [
      'another content than was signed',
      'policy-commitment-signature',
      (r) => withHolderSpec(r, (spec) => ({ ...spec, feerateSatPerKw: spec.feerateSatPerKw + 1 })),
    ],
    [
      'a number ahead',
      'policy-commitment-number',
      (r) => withHolderSpec(r, (spec) => ({ ...spec, commitmentNumber: spec.commitmentNumber + 1n })),
    ],
    [
      'the last number with another content',
      'policy-commitment-retry-same',
      (r) =>
        withHolderSpec(r, (spec) => ({
          ...spec,
          commitmentNumber: spec.commitmentNumber - 1n,
          feerateSatPerKw: 300,
        })),
    ],
    [
      'the secret of a commitment without successor',
      'policy-revoke-new-commitment-signed',
      (r) => ({ ...r, holderCommitment: undefined }),
    ],
    [
      'the new commitment’s own secret',
      'policy-revoke-new-commitment-signed',
      (r) => ({ ...r, releaseSecretNumber: (r.releaseSecretNumber ?? 0n) + 1n }),
    ],
    [
      'the counterparty’s reserve spent',
      'policy-commitment-reserve',
      (r) =>
        withHolderSpec(r, (spec) => ({
          ...spec,
          toHolderMsat: spec.toHolderMsat + spec.toCounterpartyMsat,
          toCounterpartyMsat: 0n,
        })),
    ],
  ];

  test.each(holderCases)('validating: %s', async (_name, policy, deviate) => {
    const { signer, bob } = await nextStep();
    const request = bob();
    expect(signer.refusal('bob', deviate(request))).toBe(policy);
    expect(signer.refusal('bob', request)).toBeUndefined();
  });

  test('a second holder commitment before the first is revoked', async () => {
    const { signer, bob, number, content, channel } = await nextStep();
    const request = bob();
    signer.execute('bob', { ...request, releaseSecretNumber: undefined, counterpartyCommitment: undefined });
    const ahead = {
      spec: specFor('bob', content, number + 1n),
      signatures: request.holderCommitment?.signatures ?? [],
    };
    expect(signer.refusal('bob', { ...EMPTY_ITEM, holderCommitment: ahead })).toBe(
      'policy-commitment-holder-not-revoked',
    );
    expect(channel.number).toBe(number);
  });

  test('commitment 1 is not signed for a counterparty that never signed commitment 0', () => {
    const signer = new PureSigner(secp, parties);
    const channel = new HonestChannel(secp, parties, (side, request) =>
      Promise.resolve(signer.execute(side, request)),
    );
    signer.execute('alice', {
      ...EMPTY_ITEM,
      ...channel.counterpartyCommitment('alice', channel.content, 0n),
    });
    const next = { ...EMPTY_ITEM, ...channel.counterpartyCommitment('alice', channel.content, 1n) };
    expect(signer.refusal('alice', next)).toBe('policy-commitment-initial-not-validated');
  });
});

describe('closing', () => {
  const holderRequest = (log: HonestChannel['log'], side: Side, number: bigint) => {
    const found = log.find(
      (entry) => entry.side === side && entry.request.holderCommitment?.spec.commitmentNumber === number,
    )?.request.holderCommitment;
    if (found === undefined) throw new RangeError('no such commitment');
    return found;
  };

  test('the last commitment is signed, again with the same bytes, and nothing moves afterwards', async () => {
    const { signer, channel } = await played(addTwo);
    const number = channel.number - 1n;
    const request = holderRequest(channel.log, 'alice', number);
    const signed = signHolderCommitment(signer.contexts.alice, signer.states.alice, request);
    if (!signed.ok) throw new RangeError(signed.error.policy);
    expect(decodeTx(signed.value.transaction).ok).toBe(true);
    signer.states.alice = signed.value.state;
    const again = signHolderCommitment(signer.contexts.alice, signer.states.alice, request);
    expect(again).toEqual(signed);
    const next: SignItemRequest = {
      ...EMPTY_ITEM,
      revocations: channel.pending.alice,
      ...channel.counterpartyCommitment('alice', channel.content, channel.number),
    };
    expect(signer.refusal('alice', next)).toBe('policy-commitment-not-closed');
    expect(signer.refusal('alice', { ...EMPTY_ITEM, releaseSecretNumber: number })).toBe(
      'policy-revoke-new-commitment-signed',
    );
    // The counterparty's next signature is not accepted any more, so the secret of `number` can never leave.
    const forBob = await channel.run(
      'bob',
      channel.counterpartyCommitment('bob', channel.content, channel.number),
    );
    const validate = {
      ...EMPTY_ITEM,
      ...channel.holderCommitment('alice', channel.content, channel.number, forBob),
    };
    expect(signer.refusal('alice', validate)).toBe('policy-commitment-not-closed');
  });

  test.each([
    { type: 'mutual_close' },
    { type: 'closing', commitmentNumber: 3n },
    { type: 'frozen' },
  ] as const)(
    'the counterparty’s secret is taken after a $type, with our own that is said again',
    async (lock) => {
      const { signer, channel } = await played(addTwo);
      const { secrets, nextHolderRevocation } = signer.states.alice;
      signer.states.alice = { ...signer.states.alice, lock };
      const revocations = channel.pending.alice;
      expect(revocations).toHaveLength(1);
      const again = { ...EMPTY_ITEM, revocations, releaseSecretNumber: nextHolderRevocation - 1n };
      expect(signer.refusal('alice', again)).toBeUndefined();
      signer.execute('alice', again);
      expect(signer.states.alice).toMatchObject({ lock, secrets: { count: secrets.count + 1n } });
    },
  );

  test('a commitment that only the manager knew is validated and signed; its predecessor then is not revoked', async () => {
    const { signer, channel } = await played(addTwo);
    const forAlice = await channel.run(
      'bob',
      channel.counterpartyCommitment('bob', channel.content, channel.number),
    );
    const request = {
      spec: specFor('alice', channel.content, channel.number),
      signatures: forAlice.signatures,
    };
    const signed = signHolderCommitment(signer.contexts.alice, signer.states.alice, request);
    if (!signed.ok) throw new RangeError(signed.error.policy);
    signer.states.alice = signed.value.state;
    expect(signed.value.state.nextHolderCommitment).toBe(channel.number + 1n);
    expect(signer.refusal('alice', { ...EMPTY_ITEM, releaseSecretNumber: channel.number - 1n })).toBe(
      'policy-revoke-not-closed',
    );
  });

  test('a revoked commitment is never signed', async () => {
    const { signer, channel } = await played(addTwo);
    for (let number = 0n; number < channel.number - 1n; number++) {
      const refused = signHolderCommitment(
        signer.contexts.alice,
        signer.states.alice,
        holderRequest(channel.log, 'alice', number),
      );
      expect(!refused.ok && refused.error.policy).toBe('policy-holder-commitment-revoked');
    }
  });

  test('a mutual close pays only known scripts, the last balances and a sane fee, and ends the commitments', async () => {
    const idle = await played([]);
    const { toHolderMsat, toCounterpartyMsat } = idle.channel.content;
    const good = {
      toHolderSat: toHolderMsat / 1000n - 1_000n,
      toCounterpartySat: toCounterpartyMsat / 1000n,
      feeSat: 1_000n,
      holderScript: parties.alice.walletScript,
      counterpartyScript: parties.bob.walletScript,
    };
    const close = (request: typeof good, state: SignerChannelState = idle.signer.states.alice) =>
      signClosing(idle.signer.contexts.alice, state, request, parties.alice.walletScript);
    const policy = (result: ReturnType<typeof close>) => (result.ok ? 'signed' : result.error.policy);
    expect(policy(close({ ...good, holderScript: parties.bob.walletScript }))).toBe(
      'policy-mutual-destination',
    );
    expect(policy(close({ ...good, toHolderSat: good.toHolderSat - 1n }))).toBe('policy-mutual-value');
    expect(policy(close({ ...good, feeSat: 900_000n, toHolderSat: good.toHolderSat - 899_000n }))).toBe(
      'policy-mutual-fee-range',
    );
    const signed = close(good);
    if (!signed.ok) throw new RangeError(signed.error.policy);
    const cheaper = close(
      { ...good, feeSat: 500n, toHolderSat: good.toHolderSat + 500n },
      signed.value.state,
    );
    expect(policy(cheaper)).toBe('signed');
    idle.signer.states.alice = signed.value.state;
    expect(
      idle.signer.refusal('alice', {
        ...EMPTY_ITEM,
        ...idle.channel.counterpartyCommitment('alice', idle.channel.content, 1n),
      }),
    ).toBe('policy-commitment-not-closed');
    const busy = await played(addTwo);
    expect(policy(close(good, busy.signer.states.alice))).toBe('policy-mutual-no-pending-htlcs');
  });
});

test('secrets and points in answers are the published derivation’s', async () => {
  const { signer, channel } = await played(addTwo);
  for (const { side, request, answer } of channel.log) {
    const seed = signer.contexts[side].secrets.perCommitmentSeed;
    if (request.releaseSecretNumber !== undefined)
      expect(answer.releasedSecret).toEqual(commitmentSecret(seed, request.releaseSecretNumber));
    answer.perCommitmentPoints.forEach((point, i) =>
      expect(point).toEqual(commitmentPoint(secp, seed, answer.firstPointNumber + BigInt(i))),
    );
  }
  expect(other('bob')).toBe('alice');
});
