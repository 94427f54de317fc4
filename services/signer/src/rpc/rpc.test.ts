import { createPsbt, extractPsbt, finalizePsbt, psbtWitnesses } from '@fulmen/bitcoin/psbt';
import { NETWORKS, p2wpkhScript, p2wshScript } from '@fulmen/bitcoin';
import { Transaction } from '@scure/btc-signer';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { sha256, sha256d } from '@fulmen/crypto';
import { Writer, compareBytes, concatBytes, toHex } from '@fulmen/codec';
import { channelSecrets, decodeExtendedPublic, hardened, walletPublicKey } from '@fulmen/keys';
import { afterEach, describe, expect, test } from 'vitest';
import { holderDelayedScriptPubKey } from '../enforcement/claim.ts';
import { DEFAULT_LIMITS } from '../enforcement/limits.ts';
import { registrationOf, testParties } from '../testing/channel.ts';
import { type Harness, startSigner } from '../testing/harness.ts';
import { wireRegistration } from '../testing/wire.ts';
import { type WalletKey, walletKey } from '../wallet/paths.ts';

const parties = testParties(secp);
const { keys, channelKeysId } = parties.alice;
const running: Harness[] = [];
afterEach(async () => {
  for (const harness of running.splice(0)) await harness.stop();
});
async function startAlice(options: Parameters<typeof startSigner>[0]['options'] = {}): Promise<Harness> {
  const harness = await startSigner({ secp, party: parties.alice, options });
  running.push(harness);
  return harness;
}
const refused = (policy: string) => ({ metadata: { 'fulmen-refusal-policy': policy } });

describe('the wallet', () => {
  const path = (purpose: 84 | 86, chain: number, index: number) => [
    hardened(purpose),
    hardened(1),
    hardened(0),
    chain,
    index,
  ];
  const key = (purpose: 84 | 86, chain: number, index: number): WalletKey => {
    const found = walletKey(secp, keys, {
      fingerprint: keys.masterFingerprint,
      path: path(purpose, chain, index),
    });
    if (found === undefined) throw new RangeError('no wallet key');
    return found;
  };
  const foreign = p2wpkhScript(parties.bob.keys.nodeId);

  /** Spends 1,000,000 sat of each account, with origins. */
  function psbt(
    outputs: readonly {
      readonly script: Uint8Array;
      readonly valueSat: bigint;
      readonly origin?: number[];
    }[],
    fingerprint = keys.masterFingerprint,
  ): Uint8Array {
    const [segwit, taproot] = [key(84, 0, 3), key(86, 1, 4)];
    const unsigned = createPsbt({
      version: 2,
      locktime: 0,
      inputs: [segwit, taproot].map(({ script }, i) => ({
        txid: new Uint8Array(32).fill(i + 1),
        vout: 0,
        sequence: 0xfffffffd,
        spent: { script, valueSat: 1_000_000n },
      })),
      outputs: outputs.map(({ script, valueSat }) => ({ script, valueSat })),
    });
    const tx = Transaction.fromPSBT(unsigned, { allowUnknownOutputs: true, disableScriptCheck: true });
    tx.updateInput(0, { bip32Derivation: [[segwit.publicKey, { fingerprint, path: path(84, 0, 3) }]] });
    tx.updateInput(1, {
      tapBip32Derivation: [
        [taproot.publicKey.slice(1), { hashes: [], der: { fingerprint, path: path(86, 1, 4) } }],
      ],
    });
    outputs.forEach(({ origin }, i) => {
      if (origin !== undefined)
        tx.updateOutput(i, {
          bip32Derivation: [
            [key(84, origin[3] ?? 0, origin[4] ?? 0).publicKey, { fingerprint, path: origin }],
          ],
        });
    });
    return tx.toPSBT();
  }
  const change = { script: key(84, 1, 7).script, valueSat: 1_499_000n, origin: path(84, 1, 7) };

  test('descriptors are the accounts’ keys', async () => {
    const { client } = await startAlice();
    const { bip84AccountXpub, fingerprint } = await client.getWalletDescriptors({});
    const account = decodeExtendedPublic(bip84AccountXpub);
    if (!account.ok) throw new RangeError('no key');
    expect(p2wpkhScript(walletPublicKey(secp, account.value, 'change', 7))).toEqual(change.script);
    expect(fingerprint).toMatch(/^[0-9a-f]{8}$/);
  });

  test('both kinds of inputs are signed, and the transaction is whole', async () => {
    const { client } = await startAlice();
    const { psbt: signed } = await client.signPsbt({
      delayedOutputs: [],
      psbt: psbt([change, { script: foreign, valueSat: 500_000n }]),
    });
    const final = finalizePsbt(signed);
    if (!final.ok) throw final.error;
    const tx = extractPsbt(final.value);
    expect(tx.ok && tx.value.inputs.map(({ witness }) => witness.length)).toEqual([2, 1]);
  });

  test('fees, foreign payments beyond the velocity, and foreign inputs are refused; the window is shared', async () => {
    const { client } = await startAlice({ onchain: { velocitySat: 700_000n, maximumFeeSat: 10_000n } });
    const pay = (valueSat: bigint) =>
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([
          { ...change, valueSat: 1_999_000n - valueSat },
          { script: foreign, valueSat },
        ]),
      });
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 1_000_000n }]) }),
    ).rejects.toMatchObject(refused('policy-onchain-fee-range'));
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 2_000_001n }]) }),
    ).rejects.toMatchObject(refused('policy-onchain-fee-range'));
    await pay(500_000n);
    await expect(pay(300_000n)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await pay(200_000n);
    // An origin that does not lead to the output's script does not make it the wallet's.
    const lie = { script: foreign, valueSat: 1_999_000n, origin: path(84, 1, 7) };
    await expect(client.signPsbt({ delayedOutputs: [], psbt: psbt([lie]) })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 1_999_500n }], 1) }),
    ).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await expect(client.signPsbt({ delayedOutputs: [], psbt: new Uint8Array(50) })).rejects.toMatchObject(
      refused('policy-malformed-request'),
    );
  });

  test('a funding pays the channel and the wallet, and nobody else', async () => {
    const { client } = await startAlice();
    const funding = { script: p2wshScript(Uint8Array.of(0x51)), valueSat: 500_000n };
    await client.signPsbt({ delayedOutputs: [], psbt: psbt([change, funding]), channelKeysId });
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([change]), channelKeysId }),
    ).rejects.toMatchObject(refused('policy-onchain-destination'));
    await expect(
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([{ ...change, valueSat: 1_000_000n }, funding, { script: foreign, valueSat: 499_000n }]),
        channelKeysId,
      }),
    ).rejects.toMatchObject(refused('policy-onchain-destination'));
    await client.registerChannel(wireRegistration(registrationOf(secp, parties, 'alice'), 1n));
    // By now the script is known, and this is another.
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([change, funding]), channelKeysId }),
    ).rejects.toMatchObject(refused('policy-onchain-destination'));
  });

  /** A second stage of Alice's commitment 3, its fee paid by 1,000,000 sat of the wallet. */
  function secondStage(commitmentNumber: bigint, changeSat: bigint): Uint8Array {
    const registration = registrationOf(secp, parties, 'alice');
    const delayed = holderDelayedScriptPubKey(
      {
        secp,
        secrets: channelSecrets(secp, keys, channelKeysId),
        limits: DEFAULT_LIMITS,
      },
      registration,
      commitmentNumber,
    );
    const coin = key(84, 0, 3);
    const unsigned = createPsbt({
      version: 2,
      locktime: 700,
      inputs: [
        { script: p2wshScript(Uint8Array.of(0x51)), valueSat: 300_000n },
        { script: coin.script, valueSat: 1_000_000n },
      ].map((spent, i) => ({ txid: new Uint8Array(32).fill(i + 1), vout: 0, sequence: 1, spent })),
      outputs: [
        { script: delayed, valueSat: 300_000n },
        { script: change.script, valueSat: changeSat },
      ],
    });
    const tx = Transaction.fromPSBT(unsigned, { allowUnknownOutputs: true, disableScriptCheck: true });
    const fingerprint = keys.masterFingerprint;
    tx.updateInput(1, { bip32Derivation: [[coin.publicKey, { fingerprint, path: path(84, 0, 3) }]] });
    tx.updateOutput(1, {
      bip32Derivation: [[key(84, 1, 7).publicKey, { fingerprint, path: path(84, 1, 7) }]],
    });
    return tx.toPSBT();
  }

  test('it pays the fee of a second stage, whose output is the channel’s own and nobody else’s', async () => {
    const { client } = await startAlice({ onchain: { velocitySat: 100_000n, maximumFeeSat: 10_000n } });
    const delayedOutputs = [{ channelKeysId, commitmentNumber: 3n, outputIndex: 0 }];
    const request = { psbt: secondStage(3n, 995_000n), delayedOutputs };
    // A channel that is not registered has no script that could be told from a stranger's.
    await expect(client.signPsbt(request)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await client.registerChannel(wireRegistration(registrationOf(secp, parties, 'alice'), 1n));
    const { psbt: signed } = await client.signPsbt(request);
    const witnesses = psbtWitnesses(signed);
    expect(witnesses.ok && witnesses.value.map((witness) => witness?.length)).toEqual([undefined, 2]);
    // Not named, or of another commitment, it is a payment to a stranger.
    await expect(client.signPsbt({ ...request, delayedOutputs: [] })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    await expect(client.signPsbt({ ...request, psbt: secondStage(4n, 995_000n) })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    // What the other input brings counts.
    await expect(client.signPsbt({ ...request, psbt: secondStage(3n, 980_000n) })).rejects.toMatchObject(
      refused('policy-onchain-fee-range'),
    );
    await expect(client.signPsbt({ ...request, channelKeysId })).rejects.toMatchObject(
      refused('policy-malformed-request'),
    );
    const foreign = {
      ...delayedOutputs[0],
      channelKeysId: new Uint8Array(32),
      commitmentNumber: 3n,
      outputIndex: 1,
    };
    await expect(
      client.signPsbt({ ...request, delayedOutputs: [...delayedOutputs, foreign] }),
    ).rejects.toMatchObject(refused('policy-malformed-request'));
  });
});

describe('invoices', () => {
  const words = Uint8Array.from({ length: 23 }, (_, i) => (i * 7) % 32);
  test('the signature is over the human-readable part and the padded words', async () => {
    const { client } = await startAlice();
    const { signature, recoveryId } = await client.signInvoice({
      humanReadablePart: 'lnbcrt25m',
      dataWords: words,
    });
    const bits = [...words].map((word) => word.toString(2).padStart(5, '0')).join('');
    const packed = (bits.padEnd(Math.ceil(bits.length / 8) * 8, '0').match(/.{8}/g) ?? []).map((byte) =>
      Number.parseInt(byte, 2),
    );
    const hash = sha256(concatBytes(Buffer.from('lnbcrt25m'), Uint8Array.from(packed)));
    expect(toHex(secp.recover(hash, Uint8Array.from(signature), recoveryId) ?? new Uint8Array())).toBe(
      toHex(keys.nodeId),
    );
  });

  test.each(['lnbc25m', 'lnbcrt25x', 'lnbcrt025m', 'lntb1', 'bcrt1', ''])(
    'another prefix is refused: "%s"',
    async (humanReadablePart) => {
      const { client } = await startAlice();
      await expect(client.signInvoice({ humanReadablePart, dataWords: words })).rejects.toMatchObject(
        refused('policy-invoice'),
      );
    },
  );

  test('words above 31, too few and too many are refused', async () => {
    const { client } = await startAlice();
    for (const dataWords of [words.map(() => 32), words.subarray(0, 6), new Uint8Array(9_000)]) {
      await expect(client.signInvoice({ humanReadablePart: 'lnbcrt', dataWords })).rejects.toMatchObject(
        refused('policy-invoice'),
      );
    }
  });
});

describe('gossip', () => {
  const { chainHash } = NETWORKS.regtest;
  const registration = registrationOf(secp, parties, 'alice');
  const ours = { nodeId: keys.nodeId, bitcoinKey: registration.funding.holderFundingPubkey };
  const theirs = {
    nodeId: parties.bob.keys.nodeId,
    bitcoinKey: registration.funding.counterpartyFundingPubkey,
  };
  const [first, second] = compareBytes(ours.nodeId, theirs.nodeId) < 0 ? [ours, theirs] : [theirs, ours];
  const direction = first === ours ? 0 : 1;
  const announcement = (
    change: { chain?: Uint8Array; one?: typeof ours; two?: typeof ours } = {},
  ): Uint8Array => {
    const { chain = chainHash, one = first, two = second } = change;
    return new Writer()
      .u16(0)
      .bytes(chain)
      .u64(7n)
      .bytes(one.nodeId)
      .bytes(two.nodeId)
      .bytes(one.bitcoinKey)
      .bytes(two.bitcoinKey)
      .finish();
  };
  const update = (flags: number): Uint8Array =>
    new Writer()
      .bytes(chainHash)
      .u64(7n)
      .u32(1)
      .u8(1)
      .u8(flags)
      .u16(40)
      .u64(1n)
      .u32(0)
      .u32(0)
      .u64(9n)
      .finish();
  const node = (id: Uint8Array): Uint8Array =>
    new Writer().u16(0).u32(5).bytes(id).bytes(new Uint8Array(35)).u16(0).finish();

  async function registered(announce = true): Promise<Harness> {
    const harness = await startAlice();
    await harness.client.registerChannel(wireRegistration({ ...registration, announce }, 1n));
    return harness;
  }

  test('an announcement gets both signatures', async () => {
    const { client } = await registered();
    const { nodeSignature, bitcoinSignature } = await client.signGossip({
      channelKeysId,
      message: { $case: 'channelAnnouncement', value: announcement() },
    });
    const hash = sha256d(announcement());
    expect(secp.verify(hash, Uint8Array.from(nodeSignature), ours.nodeId)).toBe(true);
    expect(secp.verify(hash, Uint8Array.from(bitcoinSignature), ours.bitcoinKey)).toBe(true);
  });

  test('other chains, nodes, keys and orders are refused, and private channels stay so', async () => {
    const { client } = await registered();
    const sign = (value: Uint8Array) =>
      client.signGossip({ channelKeysId, message: { $case: 'channelAnnouncement', value } });
    const wrong = [
      { chain: NETWORKS.mainnet.chainHash },
      { one: second, two: first },
      { one: { ...first, bitcoinKey: second.bitcoinKey } },
      { two: { ...second, nodeId: second.bitcoinKey } },
    ];
    for (const change of wrong)
      await expect(sign(announcement(change))).rejects.toMatchObject(refused('policy-gossip'));
    await expect(sign(announcement().subarray(0, 90))).rejects.toMatchObject(refused('policy-gossip'));
    await expect(
      client.signGossip({
        channelKeysId: new Uint8Array(32),
        message: { $case: 'channelAnnouncement', value: announcement() },
      }),
    ).rejects.toMatchObject(refused('policy-gossip'));
    const quiet = await registered(false);
    await expect(
      quiet.client.signGossip({
        channelKeysId,
        message: { $case: 'channelAnnouncement', value: announcement() },
      }),
    ).rejects.toMatchObject(refused('policy-gossip'));
  });

  test('updates of the own direction and announcements of the own node are signed, others not', async () => {
    const { client } = await registered();
    const good = await client.signGossip({
      channelKeysId,
      message: { $case: 'channelUpdate', value: update(direction) },
    });
    expect(secp.verify(sha256d(update(direction)), Uint8Array.from(good.nodeSignature), keys.nodeId)).toBe(
      true,
    );
    expect(good.bitcoinSignature).toHaveLength(0);
    await expect(
      client.signGossip({ channelKeysId, message: { $case: 'channelUpdate', value: update(1 - direction) } }),
    ).rejects.toMatchObject(refused('policy-gossip'));
    await client.signGossip({
      channelKeysId: new Uint8Array(0),
      message: { $case: 'nodeAnnouncement', value: node(keys.nodeId) },
    });
    await expect(
      client.signGossip({
        channelKeysId: new Uint8Array(0),
        message: { $case: 'nodeAnnouncement', value: node(theirs.nodeId) },
      }),
    ).rejects.toMatchObject(refused('policy-gossip'));
  });
});
