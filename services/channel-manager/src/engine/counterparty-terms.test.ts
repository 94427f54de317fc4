/** Which channel_updates of a peer are believed to be its terms for one of our channels. */
import { NETWORKS } from '@fulmen/bitcoin';
import { encodeChannelType, type EstablishedChannel } from '@fulmen/channel';
import { Pair } from '@fulmen/channel/testing/pair';
import { compareBytes, utf8Encode } from '@fulmen/codec';
import { sha256, sha256d } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { silentLogger } from '@fulmen/service';
import type { CounterpartyPolicy } from '@fulmen/store';
import { encodeMessage, gossipSignedBytes, make } from '@fulmen/wire';
import { beforeEach, expect, test } from 'vitest';
import type { Peer } from '../peers/peer.ts';
import { learnTerms, scidsOf } from './counterparty-terms.ts';
import type { EnginePorts } from './ports.ts';

const PEER_SECRET = sha256(utf8Encode('peer'));
const peerNodeId = secp256k1.publicKeyOf(PEER_SECRET);
const nodeId = secp256k1.publicKeyOf(sha256(utf8Encode('node')));
const { chainHash } = NETWORKS.regtest;
const DIRECTION = compareBytes(peerNodeId, nodeId) < 0 ? 0 : 1;
const GIVEN_ALIAS = 77n;
const TAKEN_ALIAS = 88n;

const channel = {
  ...new Pair(fakeSecp256k1).alice.channel,
  aliasScid: GIVEN_ALIAS,
  counterpartyAliasScid: TAKEN_ALIAS,
};
const stored: CounterpartyPolicy[] = [];
beforeEach(() => {
  stored.length = 0;
});

async function hear(
  over: { shortChannelId?: bigint; channelFlags?: number; chainHash?: Uint8Array } = {},
  {
    signer = PEER_SECRET,
    state = channel,
    storeIsAway = false,
  }: { signer?: Uint8Array; state?: EstablishedChannel; storeIsAway?: boolean } = {},
): Promise<void> {
  const unsigned = make('channel_update', {
    signature: new Uint8Array(64),
    chainHash,
    shortChannelId: GIVEN_ALIAS,
    timestamp: 1_700_000_000,
    messageFlags: 1,
    channelFlags: DIRECTION,
    cltvExpiryDelta: 40,
    htlcMinimumMsat: 1n,
    feeBaseMsat: 5,
    feeProportionalMillionths: 6,
    htlcMaximumMsat: 1_000_000n,
    excessData: new Uint8Array(0),
    ...over,
  });
  const signature = secp256k1.sign(sha256d(gossipSignedBytes(encodeMessage(unsigned))), signer);
  const ports = {
    secp: secp256k1,
    logger: silentLogger,
    store: {
      setCounterpartyPolicy: (_fence: unknown, _channelId: unknown, policy: CounterpartyPolicy) => {
        if (storeIsAway) return Promise.reject(new TypeError('away'));
        stored.push(policy);
        return Promise.resolve();
      },
    },
  } as unknown as EnginePorts;
  const actor = { state, channelId: state.channelId, fence: {} };
  const peer = {
    nodeId: peerNodeId,
    key: 'peer',
    channels: new Map([['channel', actor]]),
  } as unknown as Peer;
  await learnTerms(ports, { nodeId, chainHash }, peer, encodeMessage({ ...unsigned, signature }));
}

test('the peer’s own update is stored under the scid that the peer finds the channel by', async () => {
  await hear();
  await hear({ shortChannelId: TAKEN_ALIAS, channelFlags: DIRECTION | 2 });
  expect(stored).toEqual(
    (['enabled', 'disabled'] as const).map((state) => ({
      shortChannelId: TAKEN_ALIAS,
      feeBaseMsat: 5,
      feeProportionalMillionths: 6,
      cltvExpiryDelta: 40,
      state,
      timestampUnixSeconds: 1_700_000_000,
    })),
  );
  expect(scidsOf(channel)).toEqual(expect.arrayContaining([GIVEN_ALIAS, TAKEN_ALIAS]));
});

test('another channel, direction, chain or signer changes nothing, and neither does a store that is away', async () => {
  await hear({ shortChannelId: 5n });
  await hear({ channelFlags: 1 - DIRECTION });
  await hear({ chainHash: new Uint8Array(32) });
  await hear({}, { signer: sha256(utf8Encode('stranger')) });
  await hear({}, { storeIsAway: true });
  expect(stored).toEqual([]);
});

test('without an alias of the peer, payers hear the real scid, but of a channel whose type hides it', async () => {
  const { counterpartyAliasScid: _, ...nameless } = channel;
  const channelType = encodeChannelType({
    commitmentFormat: 'anchors',
    scidAlias: 'scid_alias',
    confirmations: 'confirmed',
  });
  await hear({}, { state: { ...nameless, parameters: { ...nameless.parameters, channelType } } });
  expect(stored).toEqual([]);
  await hear({}, { state: nameless });
  expect(stored).toHaveLength(1);
});
