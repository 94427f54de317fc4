import { type Tx, encodeTx, p2wshScript } from '@fulmen/bitcoin';
import { buildCommitment } from '@fulmen/channel/commitment/build';
import { equalBytes, toHex } from '@fulmen/codec';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { commitmentPoint, commitmentSecret } from '@fulmen/keys';
import { encodeMonitorParameters, type MonitorParameters, type MonitorParty } from '@fulmen/monitor';
import { JusticeSignerServiceService } from '@fulmen/proto/tower/v1/tower';
import { MemoryNetwork } from '@fulmen/rpc';
import { Metrics, silentLogger } from '@fulmen/service';
import { describe, expect, test } from 'vitest';
import { signClaim } from '../enforcement/claim.ts';
import { HonestChannel, registrationOf, specFor, testParties } from '../testing/channel.ts';
import { startSigner } from '../testing/harness.ts';
import { PureSigner } from '../testing/pure-signer.ts';
import { openJusticeKey, SEALED_KEY_LENGTH, sealJusticeKey } from './seal.ts';
import { type JusticeKeys, type RevokedOutput, signJustice } from './sign.ts';
import { startJusticeSigner } from './start.ts';

const parties = testParties(secp);
const towerSecret = new Uint8Array(32).fill(0x44);
const towerKey = secp.publicKeyOf(towerSecret);
const keys: JusticeKeys = {
  secp,
  secret: towerSecret,
  destinationScript: p2wshScript(new Uint8Array(5)),
  maximumFeePercent: 50,
};

function parametersOf(format: 'anchors' | 'static_remotekey'): MonitorParameters {
  const registration = registrationOf(secp, parties, 'alice', format);
  const party = (own: 'holder' | 'counterparty', other: 'holder' | 'counterparty'): MonitorParty => ({
    ...registration[own],
    selfDelayBlocks: registration[other].toSelfDelayBlocks,
  });
  return {
    channelId: registration.channelId,
    channelKeysId: registration.channelKeysId,
    commitmentFormat: format,
    funder: registration.funder,
    holder: party('holder', 'counterparty'),
    counterparty: party('counterparty', 'holder'),
    fundings: [registration.funding],
  };
}

function payment(valueSat: bigint, script: Uint8Array, inputs = 1): Tx {
  return {
    version: 2,
    locktime: 0,
    inputs: Array.from({ length: inputs }, (_, vout) => ({
      txid: new Uint8Array(32).fill(1),
      vout,
      scriptSig: new Uint8Array(0),
      sequence: 0xffff_fffd,
      witness: [],
    })),
    outputs: [{ valueSat, script }],
  };
}

describe.each(['anchors', 'static_remotekey'] as const)('a revoked commitment of %s', (format) => {
  const signer = new PureSigner(secp, parties, format);
  const { secrets } = signer.contexts.alice;
  const parameters = parametersOf(format);
  const number = 2n;
  const bobSecret = commitmentSecret(signer.contexts.bob.secrets.perCommitmentSeed, number);
  const sealedKey = sealJusticeKey(
    secp,
    {
      channelKeysId: parameters.channelKeysId,
      revocationBasepointSecret: secrets.revocationBasepointSecret,
    },
    towerKey,
    new Uint8Array(32).fill(9),
  );
  const base: RevokedOutput = {
    parameters: encodeMonitorParameters(parameters),
    sealedKey,
    valueSat: 100_000n,
    perCommitmentSecret: bobSecret,
    htlc: undefined,
  };
  const refusalOf = (changes: Partial<RevokedOutput>, tx = payment(90_000n, keys.destinationScript)) => {
    const signed = signJustice(keys, { transaction: encodeTx(tx), inputs: [{ ...base, ...changes }] });
    return signed.ok ? 'signed' : signed.error.policy;
  };

  test('is punished with the signatures that the node’s own signer would give', async () => {
    const channel = new HonestChannel(secp, parties, (side, request) =>
      Promise.resolve(signer.execute(side, request)),
    );
    await channel.open();
    await channel.step('alice', { type: 'add', by: 'alice', amountMsat: 50_000_000n });
    await channel.step('bob', { type: 'add', by: 'bob', amountMsat: 70_000_000n });
    const registration = registrationOf(secp, parties, 'alice', format);
    const revoked = buildCommitment(secp, {
      parameters: registration,
      funding: registration.funding,
      owner: 'counterparty',
      spec: specFor('alice', channel.content, number),
      perCommitmentPoint: commitmentPoint(secp, signer.contexts.bob.secrets.perCommitmentSeed, number),
    });
    const targets = revoked.outputs.filter(({ type }) => type === 'to_local' || type === 'htlc');
    expect(targets.map(({ type }) => type).toSorted()).toEqual(['htlc', 'htlc', 'to_local']);
    const valueSat = targets.reduce((sum, target) => sum + target.valueSat, 0n);
    const transaction = payment(valueSat - 1_000n, keys.destinationScript, targets.length);
    const signed = signJustice(keys, {
      transaction: encodeTx(transaction),
      inputs: targets.map((target) => ({
        ...base,
        valueSat: target.valueSat,
        htlc: target.type === 'htlc' ? target.htlc : undefined,
      })),
    });
    if (!signed.ok) throw new RangeError(signed.error.reason);
    for (const [inputIndex, target] of targets.entries()) {
      const claimed = signClaim(
        {
          ...signer.contexts.alice,
          maximumFeeSat: 10_000n,
          otherInputsSat: 0n,
          isOwn: (_index, script) => equalBytes(script, keys.destinationScript),
        },
        registration,
        {
          transaction,
          inputIndex,
          spentValueSat: target.valueSat,
          output:
            target.type === 'htlc'
              ? { type: 'revoked_htlc', perCommitmentSecret: bobSecret, htlc: target.htlc }
              : { type: 'revoked_delayed', perCommitmentSecret: bobSecret },
        },
      );
      if (!claimed.ok) throw new RangeError(claimed.error.reason);
      expect(signed.value[inputIndex]).toEqual(claimed.value);
      expect(p2wshScript(claimed.value.witnessScript ?? new Uint8Array(0))).toEqual(target.scriptPubKey);
    }
  });

  test('pays one script, keeps most of the money, and needs the tower’s own sealed key', () => {
    expect(refusalOf({})).toBe('signed');
    expect(refusalOf({}, payment(90_000n, parties.alice.walletScript))).toBe('policy-justice-destination');
    const aside = payment(50_000n, keys.destinationScript);
    const shared = {
      ...aside,
      outputs: [...aside.outputs, { valueSat: 1n, script: parties.alice.walletScript }],
    };
    expect(refusalOf({}, shared)).toBe('policy-justice-destination');
    expect(refusalOf({}, { ...aside, outputs: [] })).not.toBe('signed');
    expect(refusalOf({}, payment(49_999n, keys.destinationScript))).toBe('policy-onchain-fee-range');
    expect(refusalOf({}, payment(50_000n, keys.destinationScript))).toBe('signed');
    expect(refusalOf({ valueSat: 1n << 63n })).toBe('policy-malformed-request');
    expect(refusalOf({ perCommitmentSecret: new Uint8Array(32) })).toBe('policy-malformed-request');
    expect(refusalOf({ parameters: new Uint8Array(3) })).toBe('policy-malformed-request');
    expect(refusalOf({}, payment(190_000n, keys.destinationScript, 2))).toBe('policy-malformed-request');
    expect(refusalOf({ sealedKey: sealedKey.with(-1, (sealedKey.at(-1) ?? 0) ^ 1) })).toBe(
      'policy-justice-key',
    );
    // Another channel's parameters around this channel's key, and this channel's id around another's basepoints.
    expect(
      refusalOf({
        parameters: encodeMonitorParameters({ ...parameters, channelKeysId: new Uint8Array(32).fill(1) }),
      }),
    ).toBe('policy-justice-key');
    expect(
      refusalOf({
        parameters: encodeMonitorParameters({
          ...parameters,
          holder: { ...parameters.holder, revocationBasepoint: parameters.holder.htlcBasepoint },
        }),
      }),
    ).toBe('policy-justice-key');
    expect(secp.isPublicKey(sealedKey.subarray(1, 34))).toBe(true);
    expect(sealedKey).toHaveLength(SEALED_KEY_LENGTH);
    expect(
      openJusticeKey(secp, sealedKey, parameters.channelKeysId, new Uint8Array(32).fill(0x45)),
    ).toBeUndefined();
    expect(openJusticeKey(secp, sealedKey, parameters.channelKeysId, towerSecret)).toEqual(
      secrets.revocationBasepointSecret,
    );
  });

  test('the node’s signer seals to towers of its list only, and the tower’s signer answers towers only', async () => {
    const node = await startSigner({ secp, party: parties.alice, options: { towerKeys: [towerKey] } });
    const { channelKeysId } = parameters;
    const sealed = await node.client.sealJusticeKey({ channelKeysId, towerPublicKey: towerKey });
    const stranger = secp.publicKeyOf(new Uint8Array(32).fill(0x46));
    await expect(
      node.client.sealJusticeKey({ channelKeysId, towerPublicKey: stranger }),
    ).rejects.toMatchObject({ metadata: { 'fulmen-refusal-policy': 'policy-tower-key' } });
    await node.stop();

    const network = new MemoryNetwork();
    const tower = await startJusticeSigner(keys, {
      rpcServer: network.server('justice'),
      logger: silentLogger,
      metrics: new Metrics('signer'),
    });
    const clientWith = (capability: string) =>
      network.connector('tower', [capability]).client(JusticeSignerServiceService, tower.address);
    const identity = await clientWith('tower').getJusticeNode({});
    expect(toHex(identity.publicKey)).toBe(toHex(towerKey));
    expect(toHex(identity.destinationScript)).toBe(toHex(keys.destinationScript));
    const tampered = sealed.sealedKey.map((byte, at) => (at === 50 ? byte ^ 1 : byte));
    await clientWith('tower').checkKey({ parameters: base.parameters, sealedKey: sealed.sealedKey });
    await expect(
      clientWith('tower').checkKey({ parameters: base.parameters, sealedKey: tampered }),
    ).rejects.toMatchObject({ metadata: { 'fulmen-policy': 'policy-justice-key' } });
    const request = (script: Uint8Array) => ({
      transaction: encodeTx(payment(90_000n, script)),
      inputs: [{ ...base, sealedKey: sealed.sealedKey, htlc: undefined }],
    });
    expect((await clientWith('tower').signJustice(request(keys.destinationScript))).signatures).toHaveLength(
      1,
    );
    await expect(clientWith('tower').signJustice(request(parties.alice.walletScript))).rejects.toMatchObject({
      code: 'permission_denied',
    });
    await expect(clientWith('claim').signJustice(request(keys.destinationScript))).rejects.toMatchObject({
      code: 'permission_denied',
    });
    await expect(clientWith('plaintext').getJusticeNode({})).rejects.toMatchObject({
      code: 'permission_denied',
    });
    await tower.stop();
  });
});
