import { secp256k1 as secp } from '@fulmen/crypto/default';
import { SIGHASH, type Tx, p2pkhScript, p2wshScript, segwitV0Sighash } from '@fulmen/bitcoin';
import { buildCommitment } from '@fulmen/channel/commitment/build';
import type { BuiltCommitment, CommitmentOutput } from '@fulmen/channel/commitment/types';
import { equalBytes } from '@fulmen/codec';
import { hash160 } from '@fulmen/crypto';
import { commitmentPoint, commitmentSecret, derivePublicKey } from '@fulmen/keys';
import { describe, expect, test } from 'vitest';
import { EMPTY_ITEM, HonestChannel, registrationOf, specFor, testParties } from '../testing/channel.ts';
import { ALL_CAPABILITIES, startSigner } from '../testing/harness.ts';
import { PureSigner } from '../testing/pure-signer.ts';
import { wireRegistration } from '../testing/wire.ts';
import { encodeTx } from '@fulmen/bitcoin';
import { type ClaimContext, type ClaimedOutput, signClaim } from './claim.ts';
import type { PolicyTag } from './types.ts';

const parties = testParties(secp);
const own = parties.alice.walletScript;

function sweep(valueSat: bigint, script = own): Tx {
  return {
    version: 2,
    locktime: 0,
    inputs: [
      { txid: new Uint8Array(32).fill(1), vout: 0, scriptSig: new Uint8Array(0), sequence: 144, witness: [] },
    ],
    outputs: [{ valueSat: valueSat - 500n, script }],
  };
}

describe.each(['anchors', 'static_remotekey'] as const)('claims on %s', (format) => {
  const signer = new PureSigner(secp, parties, format);
  const channel = new HonestChannel(secp, parties, (side, request) =>
    Promise.resolve(signer.execute(side, request)),
  );
  const registration = registrationOf(secp, parties, 'alice', format);
  const ctx: ClaimContext = {
    ...signer.contexts.alice,
    maximumFeeSat: 10_000n,
    otherInputsSat: 0n,
    isOwn: (_index, script) => equalBytes(script, own),
  };
  const [aliceSeed, bobSeed] = [
    signer.contexts.alice.secrets.perCommitmentSeed,
    signer.contexts.bob.secrets.perCommitmentSeed,
  ];
  const number = 2n;
  const build = (owner: 'holder' | 'counterparty'): BuiltCommitment =>
    buildCommitment(secp, {
      parameters: registration,
      funding: registration.funding,
      owner,
      spec: specFor('alice', channel.content, number),
      perCommitmentPoint: commitmentPoint(secp, owner === 'holder' ? aliceSeed : bobSeed, number),
    });
  const opened = (async () => {
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 50_000_000n });
    await channel.step('bob', { type: 'add', by: 'bob', amountMsat: 70_000_000n });
  })();

  /** The claim of an output is a valid signature for exactly that output. */
  function check(target: CommitmentOutput, claimed: ClaimedOutput, publicKey: Uint8Array): void {
    const transaction = sweep(target.valueSat);
    const signed = signClaim(ctx, registration, {
      transaction,
      inputIndex: 0,
      spentValueSat: target.valueSat,
      output: claimed,
    });
    if (!signed.ok) throw new RangeError(signed.error.policy);
    const { witnessScript } = signed.value;
    expect(witnessScript === undefined ? undefined : p2wshScript(witnessScript)).toEqual(
      'witnessScript' in target && target.witnessScript !== undefined ? target.scriptPubKey : undefined,
    );
    const sighash = segwitV0Sighash(
      transaction,
      0,
      witnessScript ?? p2pkhScript(hash160(publicKey)),
      target.valueSat,
      SIGHASH.ALL,
    );
    expect(signed.value.publicKey).toEqual(publicKey);
    expect(secp.verify(sighash, signed.value.signature, publicKey)).toBe(true);
  }

  test('every output of both commitments that is the holder’s', async () => {
    await opened;
    const holder = build('holder');
    const counterparty = build('counterparty');
    const [alicePoint, bobSecret] = [
      commitmentPoint(secp, aliceSeed, number),
      commitmentSecret(bobSeed, number),
    ];
    const bobPoint = secp.publicKeyOf(bobSecret);
    let checked = 0;
    for (const target of holder.outputs) {
      if (target.type === 'to_local')
        check(
          target,
          { type: 'holder_delayed', commitmentNumber: number },
          derivePublicKey(secp, registration.holder.delayedPaymentBasepoint, alicePoint),
        );
      else if (target.type === 'htlc')
        check(
          target,
          { type: 'holder_htlc', commitmentNumber: number, htlc: target.htlc },
          derivePublicKey(secp, registration.holder.htlcBasepoint, alicePoint),
        );
      else if (target.type === 'anchor_holder')
        check({ ...target, valueSat: 5_000n }, { type: 'anchor' }, registration.holder.fundingPubkey);
      else continue;
      checked += 1;
    }
    for (const target of counterparty.outputs) {
      if (target.type === 'to_remote')
        check(target, { type: 'counterparty_balance' }, registration.holder.paymentBasepoint);
      else if (target.type === 'htlc') {
        check(
          target,
          { type: 'counterparty_htlc', perCommitmentPoint: bobPoint, htlc: target.htlc },
          derivePublicKey(secp, registration.holder.htlcBasepoint, bobPoint),
        );
        check(
          target,
          { type: 'revoked_htlc', perCommitmentSecret: bobSecret, htlc: target.htlc },
          counterparty.keys.revocationPubkey,
        );
      } else if (target.type === 'to_local')
        check(
          target,
          { type: 'revoked_delayed', perCommitmentSecret: bobSecret },
          counterparty.keys.revocationPubkey,
        );
      else continue;
      checked += 1;
    }
    expect(checked).toBe(format === 'anchors' ? 8 : 7);
  });

  test('the holder’s second stages go to their delayed output; the counterparty’s never do', async () => {
    await opened;
    const [second] = build('holder').htlcTransactions;
    if (second === undefined) throw new RangeError('no HTLC');
    const request = {
      transaction: second.transaction,
      inputIndex: 0,
      spentValueSat: second.amountSat,
      output: { type: 'holder_htlc', commitmentNumber: number, htlc: second.htlc },
    } as const;
    const signed = signClaim(ctx, registration, request);
    expect(signed.ok && secp.verify(second.ownSighash, signed.value.signature, signed.value.publicKey)).toBe(
      true,
    );
    const policy = (result: typeof signed): PolicyTag | 'signed' =>
      result.ok ? 'signed' : result.error.policy;
    expect(
      policy(
        signClaim(ctx, registration, { ...request, output: { ...request.output, commitmentNumber: 1n } }),
      ),
    ).toBe('policy-claim-destination');
    expect(
      policy(
        signClaim(ctx, registration, {
          ...request,
          output: { type: 'holder_delayed', commitmentNumber: number },
        }),
      ),
    ).toBe('policy-claim-destination');
  });

  test('foreign outputs, no outputs, absurd fees and nonsense are refused', () => {
    const output = { type: 'counterparty_balance' } as const;
    const policy = (transaction: Tx, claimed: ClaimedOutput = output, inputIndex = 0) => {
      const result = signClaim(ctx, registration, {
        transaction,
        inputIndex,
        spentValueSat: 100_000n,
        output: claimed,
      });
      return result.ok ? 'signed' : result.error.policy;
    };
    expect(policy(sweep(100_000n))).toBe('signed');
    expect(policy(sweep(100_000n, parties.bob.walletScript))).toBe('policy-claim-destination');
    expect(policy({ ...sweep(100_000n), outputs: [] })).toBe('policy-claim-output');
    expect(policy(sweep(50_000n))).toBe('policy-onchain-fee-range');
    const anchorWithCoin = { ...sweep(50_000n), inputs: [...sweep(0n).inputs, ...sweep(0n).inputs] };
    expect(policy(anchorWithCoin)).toBe('policy-onchain-fee-range');
    expect(
      signClaim(ctx, registration, {
        transaction: anchorWithCoin,
        inputIndex: 1,
        spentValueSat: 330n,
        output: { type: 'anchor' },
      }).ok,
    ).toBe(true);
    expect(policy(sweep(100_000n), output, 1)).toBe('policy-malformed-request');
    expect(
      policy(sweep(100_000n), { type: 'revoked_delayed', perCommitmentSecret: new Uint8Array(32) }),
    ).toBe('policy-malformed-request');
    expect(EMPTY_ITEM.ecdhs).toHaveLength(0);
  });
});

test('over the contract: the claim capability, the shutdown script and wallet addresses by their path', async () => {
  const harness = await startSigner({ secp, party: parties.alice });
  const { channelKeysId } = parties.alice;
  const request = {
    channelKeysId,
    transaction: encodeTx(sweep(100_000n)),
    inputIndex: 0,
    spentValueSat: 100_000n,
    output: { $case: 'counterpartyBalance', value: {} } as const,
    outputOrigins: [],
  };
  await expect(harness.client.signClaim(request)).rejects.toMatchObject({
    metadata: { 'fulmen-refusal-policy': 'policy-channel-unregistered' },
  });
  const registered = wireRegistration(registrationOf(secp, parties, 'alice'), 1n);
  await harness.client.registerChannel(registered);
  const [first, second] = [await harness.client.signClaim(request), await harness.client.signClaim(request)];
  expect(second).toEqual(first);
  // What a channel restored from a static backup is for.
  await harness.client.registerChannel({ ...registered, restored: true });
  expect(await harness.client.signClaim(request)).toEqual(first);
  await expect(
    harness.clientWith(...ALL_CAPABILITIES.filter((one) => one !== 'claim')).signClaim(request),
  ).rejects.toMatchObject({ code: 'permission_denied' });
  // Input by input each would lose little; together they would lose half.
  const [input] = sweep(0n).inputs;
  if (input === undefined) throw new RangeError('no input');
  const two = encodeTx({
    ...sweep(6_000_000n),
    inputs: [input, { ...input, vout: 1 }],
  });
  const claimOf = (inputIndex: number) =>
    harness.client.signClaim({ ...request, transaction: two, inputIndex, spentValueSat: 6_000_000n });
  const firstInput = await claimOf(0);
  await expect(claimOf(1)).rejects.toMatchObject({
    metadata: { 'fulmen-refusal-policy': 'policy-onchain-fee-range' },
  });
  expect(await claimOf(0)).toEqual(firstInput);
  await expect(harness.client.signClaim({ ...request, output: undefined })).rejects.toMatchObject({
    code: 'failed_precondition',
  });
  await harness.stop();
});
