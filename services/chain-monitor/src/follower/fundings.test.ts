/** What the manager is told of a funding, by the height where it is. */
import { defaultChannelConfig } from '@fulmen/channel';
import type { FundingRecord } from '@fulmen/store/chain/chain-store';
import { expect, test } from 'vitest';
import { fundingStatus } from './fundings.ts';

const SEEN_HEIGHT = 200;
const record: FundingRecord = {
  channelId: new Uint8Array(32).fill(1),
  fundingTxid: new Uint8Array(32).fill(2),
  fundingOutputIndex: 0,
  fundingValueSat: 1_000_000n,
  scriptPubKey: new Uint8Array(34),
  minimumDepth: 3,
  seen: { height: SEEN_HEIGHT, txIndex: 1 },
};

// A channel waits for what its peer asks for: a depth that nobody tells would keep it from becoming ready.
test('every depth is told that a channel may wait for', () => {
  const deepest = defaultChannelConfig(new Uint8Array(32)).maximumMinimumDepth;
  for (const depth of [1, 6, 11, deepest - 1, deepest])
    expect(fundingStatus(record, SEEN_HEIGHT + depth - 1)).toMatchObject({ type: 'confirmed', depth });
});
