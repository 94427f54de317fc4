import { NETWORKS } from '@fulmen/bitcoin';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { sha256, sha256d } from '@fulmen/crypto';
import { Writer, compareBytes, concatBytes, toHex } from '@fulmen/codec';
import { afterEach, describe, expect, test } from 'vitest';
import { registrationOf, testParties } from '../testing/channel.ts';
import { type Harness, startSigner } from '../testing/harness.ts';
import { wireRegistration } from '../testing/wire.ts';

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
