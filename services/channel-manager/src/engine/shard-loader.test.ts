/** What a new owner makes of rows and a signer that do not fit together. */
import { summary } from '@fulmen/channel';
import { addCommand, Pair } from '@fulmen/channel/testing/pair';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import type { SignerChannelState } from '@fulmen/proto/signer/v1/signer';
import type { LoadedChannel } from '@fulmen/store';
import { describe, expect, test } from 'vitest';
import { channelRow } from './channel-row.ts';
import type { EnginePorts } from './ports.ts';
import { compare, loadShard } from './shard-loader.ts';

const FENCE = { shard: 1, epoch: 2n, replicaId: 'replica' };

/** Bob's channel after two payments, and the signer that was told of every step. */
function played(): { readonly pair: Pair; readonly signer: SignerChannelState } {
  const pair = new Pair(fakeSecp256k1);
  for (const seed of [1, 2]) {
    pair.alice.must(addCommand(seed, 1_000_000n));
    pair.settle();
  }
  const { changes, parameters } = pair.bob.channel;
  const signer: SignerChannelState = {
    channelKeysId: Buffer.from(parameters.channelKeysId),
    registered: true,
    nextHolderCommitment: changes.holderCommitmentNumber + 1n,
    nextHolderRevocation: changes.holderCommitmentNumber,
    nextCounterpartyCommitment: changes.counterpartyCommitmentNumber + 1n,
    nextCounterpartyRevocation: changes.counterpartySecrets.count,
    closing: false,
    firstPointNumber: changes.holderCommitmentNumber + 1n,
    perCommitmentPoints: [],
  };
  return { pair, signer };
}

describe('beside the rows the signer', () => {
  const { pair, signer } = played();
  const state = pair.bob.channel;
  const next = (field: keyof SignerChannelState, by: bigint): SignerChannelState => ({
    ...signer,
    [field]: (signer[field] as bigint) + by,
  });

  test('is equal, or one step behind', () => {
    expect(compare(state, signer).contradiction).toBeUndefined();
    expect(compare(state, next('nextHolderCommitment', -1n)).contradiction).toBeUndefined();
    expect(compare(state, next('nextCounterpartyCommitment', -1n)).contradiction).toBeUndefined();
    expect(compare(state, next('nextCounterpartyRevocation', -1n)).contradiction).toBeUndefined();
  });

  test.each([
    ['validated what they do not know', next('nextHolderCommitment', 1n)],
    ['signed what they do not know', next('nextCounterpartyCommitment', 1n)],
    ['has a revocation that they do not know', next('nextCounterpartyRevocation', 1n)],
    ['signed for broadcast', { ...signer, closing: true }],
    [
      'is ahead in one thing, and behind in another',
      { ...next('nextCounterpartyRevocation', 1n), nextHolderCommitment: 1n },
    ],
  ])('%s: the rows are behind', (_, ahead) => {
    expect(compare(state, ahead).contradiction?.behind).toBe('rows');
  });

  test.each([
    ['validated too little', next('nextHolderCommitment', -2n)],
    ['has not signed what the peer holds', next('nextCounterpartyCommitment', -2n)],
    ['does not know the channel', { ...signer, registered: false }],
    ['knows nothing', undefined],
  ])('%s: the signer is behind', (_, behind) => {
    expect(compare(state, behind).contradiction?.behind).toBe('signer');
  });

  test('closes what was decided to close', () => {
    expect(compare(state, { ...signer, closing: true }, 'an HTLC expired').contradiction).toBeUndefined();
  });
});

/** What the owner loads; `decision`: chain-monitor’s, when it is looked at after the signer. */
async function load(signer: Partial<SignerChannelState>, decision?: string) {
  const { pair, signer: equal } = played();
  const { bob } = pair;
  const { rows, channel: state, ctx } = bob;
  if (rows === undefined) throw new TypeError('nothing persisted');
  const loaded: LoadedChannel = {
    version: 1n,
    persisted: rows,
    row: channelRow(state, summary(ctx, state), 1),
    nextMonitorUpdateId: state.monitor.updateId + 1n,
    fundingStatus: undefined,
    outgoing: [],
    preimages: [],
    fulfilledLateMsat: 0n,
    intentsWritten: [],
  };
  const asked: bigint[] = [];
  const ports = {
    signer: {
      fenceShard: () => Promise.resolve({}),
      getChannelStates: () => Promise.resolve({ states: [{ ...equal, ...signer }] }),
      getPerCommitmentPoints: ({ commitmentNumbers }: { commitmentNumbers: readonly bigint[] }) => {
        asked.push(...commitmentNumbers);
        return Promise.resolve({ points: [new Uint8Array(33)] });
      },
    },
    store: {
      loadShard: () => Promise.resolve({ type: 'loaded', channels: [loaded], payments: [] }),
      getPolicy: () => Promise.resolve(undefined),
      fundingStatuses: () =>
        Promise.resolve([
          {
            channelId: state.channelId,
            status: { type: 'unconfirmed' },
            ...(decision !== undefined && { closingDecision: decision }),
          },
        ]),
    },
  } as unknown as EnginePorts;
  const { channels } = await loadShard(ports, FENCE);
  const [channel] = channels;
  if (channel === undefined) throw new TypeError('no channel');
  return { channel, state, asked };
}

describe('a shard that is loaded', () => {
  test('brings the point of the last commitment that the rows know, where they are behind', async () => {
    const { channel, state, asked } = await load({ nextHolderCommitment: 9n, firstPointNumber: 9n });
    const { holderCommitmentNumber } = state.changes;
    expect(channel.contradiction?.behind).toBe('rows');
    expect(asked).toEqual([holderCommitmentNumber]);
    expect(channel.points).toEqual({ first: holderCommitmentNumber, points: [new Uint8Array(33)] });
  });

  test('was closed by chain-monitor while it was read: no contradiction', async () => {
    const { channel } = await load({ closing: true }, 'an HTLC expired');
    expect(channel.contradiction).toBeUndefined();
    expect(channel.loaded.closingDecision).toBe('an HTLC expired');
  });

  test('has a signature for broadcast that nobody decided: the rows are behind', async () => {
    const { channel } = await load({ closing: true });
    expect(channel.contradiction?.behind).toBe('rows');
  });
});
