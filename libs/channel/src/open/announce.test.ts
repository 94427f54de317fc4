import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { shortChannelId } from '@fulmen/wire';
import { describe, expect, test } from 'vitest';
import { primaryFunding } from '../state.ts';
import { effectsOf, forged, receive, typesOf } from '../testing/expect.ts';
import { canonical, type TestNode } from '../testing/node.ts';
import { Pair } from '../testing/pair.ts';

describe('announcement_signatures', () => {
  test('are exchanged six blocks deep, and again after a reconnection that lost them', () => {
    const pair = new Pair(fakeSecp256k1, {
      announce: true,
      alice: { config: { minimumDepth: 1 } },
      bob: { config: { minimumDepth: 1 } },
    });
    for (const node of [pair.alice, pair.bob]) expect(effectsOf(node, 'announce_channel')).toHaveLength(1);
    const lossy = new Pair(fakeSecp256k1, {
      announce: true,
      bob: { config: { minimumDepth: 1 } },
      alice: { config: { minimumDepth: 1 } },
    });
    const before = canonical(lossy.alice.state);
    lossy.disconnect();
    lossy.connect();
    lossy.deliverAll();
    expect(canonical(lossy.alice.state)).toBe(before);
    expect(
      receive(
        lossy.alice,
        forged(lossy.alice, 'announcement_signatures', {
          shortChannelId: 1n,
          nodeSignature: new Uint8Array(64),
          bitcoinSignature: new Uint8Array(64),
        }),
      )?.reaction,
    ).toBe('warning');
  });

  const scidAt = (blockHeight: number): bigint => shortChannelId.from(blockHeight, 3, 1);
  const announcedScids = (node: TestNode) =>
    effectsOf(node, 'announce_channel').map((effect) => effect.shortChannelId);
  /** The counterparty's half that a node keeps. */
  const halfOf = (node: TestNode) => {
    const { announcement } = primaryFunding(node.channel);
    if (announcement.type !== 'counterparty_signed') throw new TypeError(announcement.type);
    return announcement;
  };
  const usedUnconfirmed = () => new Pair(fakeSecp256k1, { announce: true, confirmations: 'zero_conf' });

  test('are sent at the sixth block, and not again at each one after it', () => {
    const pair = usedUnconfirmed();
    const sentAt = [5, 6, 7].map((depth) => {
      pair.alice.must(pair.confirmation(pair.alice, depth));
      return typesOf(pair.alice.outbox).length;
    });
    expect(sentAt).toEqual([0, 1, 1]);
    expect(typesOf(pair.alice.outbox)).toEqual(['announcement_signatures']);
  });

  test('of the peer’s at the fifth block are kept until the sixth', () => {
    const pair = usedUnconfirmed();
    pair.alice.must(pair.confirmation(pair.alice, 5));
    pair.bob.must(pair.confirmation(pair.bob, 6));
    pair.deliver('alice');
    expect(announcedScids(pair.alice)).toEqual([]);
    pair.alice.must(pair.confirmation(pair.alice, 6));
    expect(announcedScids(pair.alice)).toEqual([scidAt(700_000)]);
    expect(typesOf(pair.alice.outbox)).toEqual(['announcement_signatures']);
  });

  test('of another block, heard before the own confirmation, are of no use: a later half counts', () => {
    const pair = usedUnconfirmed();
    const early = forged(pair.alice, 'announcement_signatures', {
      shortChannelId: 1n,
      nodeSignature: new Uint8Array(64),
      bitcoinSignature: new Uint8Array(64),
    });
    expect(receive(pair.alice, early)).toBeUndefined();
    pair.confirm(6);
    for (const node of [pair.alice, pair.bob]) expect(announcedScids(node)).toEqual([scidAt(700_000)]);
  });

  test.each([['seen to leave its block'], ['seen in the new block only']])(
    'are exchanged again for a funding that was moved, %s',
    (how) => {
      const pair = usedUnconfirmed();
      pair.confirm(6);
      for (const node of [pair.alice, pair.bob]) {
        const { fundingTxid, ...confirmed } = pair.confirmation(node, 6);
        if (how === 'seen to leave its block') node.must({ type: 'funding_reorganised_out', fundingTxid });
        node.must({ ...confirmed, fundingTxid, blockHeight: 700_001 });
      }
      pair.deliverAll();
      for (const node of [pair.alice, pair.bob])
        expect(announcedScids(node)).toEqual([scidAt(700_000), scidAt(700_001)]);
    },
  );

  test('are sent again when the funding moves before the other half came', () => {
    const pair = usedUnconfirmed();
    pair.alice.must(pair.confirmation(pair.alice, 6));
    pair.deliverAll();
    const moved = (node: TestNode) => ({ ...pair.confirmation(node, 6), blockHeight: 700_001 });
    pair.alice.must(moved(pair.alice));
    pair.deliverAll();
    pair.bob.must(moved(pair.bob));
    pair.deliverAll();
    for (const node of [pair.alice, pair.bob]) expect(announcedScids(node)).toEqual([scidAt(700_001)]);
  });

  test('of a private channel are refused', () => {
    const pair = new Pair(fakeSecp256k1);
    const { confirmation } = primaryFunding(pair.alice.channel);
    if (confirmation.type !== 'confirmed') throw new RangeError(confirmation.type);
    expect(
      receive(
        pair.alice,
        forged(pair.alice, 'announcement_signatures', {
          shortChannelId: confirmation.shortChannelId,
          nodeSignature: new Uint8Array(64),
          bitcoinSignature: new Uint8Array(64),
        }),
      ),
    ).toMatchObject({ code: 'unexpected_message', reaction: 'warning' });
  });

  test('for the new block, while the holder waits for its depth, are kept and answered in time', () => {
    const pair = usedUnconfirmed();
    pair.confirm(6);
    const moved = (node: TestNode, depth: number) => ({
      ...pair.confirmation(node, depth),
      blockHeight: 700_001,
    });
    pair.alice.must(moved(pair.alice, 1));
    pair.bob.must(moved(pair.bob, 6));
    pair.deliver('alice');
    expect(pair.alice.outbox).toEqual([]);
    pair.alice.must(moved(pair.alice, 6));
    // With the other half at hand, this one is all that is missing.
    expect(announcedScids(pair.alice)).toEqual([scidAt(700_000), scidAt(700_001)]);
    pair.deliverAll();
    expect(announcedScids(pair.bob)).toEqual([scidAt(700_000), scidAt(700_001)]);
  });

  test('are exchanged again for a funding that was moved while the two were apart, having answered before', () => {
    const pair = usedUnconfirmed();
    pair.confirm(6);
    for (const node of [pair.alice, pair.bob]) {
      const { shortChannelId, nodeSignature, bitcoinSignature } = halfOf(node);
      const again = { shortChannelId, nodeSignature, bitcoinSignature };
      expect(receive(node, forged(node, 'announcement_signatures', again))).toBeUndefined();
      expect(typesOf(node.outbox)).toEqual(['announcement_signatures']);
    }
    pair.disconnect();
    for (const node of [pair.alice, pair.bob])
      node.must({ ...pair.confirmation(node, 6), blockHeight: 700_001 });
    pair.connect();
    pair.deliverAll();
    for (const node of [pair.alice, pair.bob])
      expect(announcedScids(node)).toEqual([scidAt(700_000), scidAt(700_001)]);
  });
});
