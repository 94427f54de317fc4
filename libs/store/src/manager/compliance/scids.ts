/** Which channel a scid means, also while blocks are replaced. */
import { describe, expect, test } from 'vitest';
import type { CommitUnit, Fence, FundingStatus, FundingWatch, ManagerStore } from '../manager-store.ts';
import { bytes, channelIdOf, type ManagerDatabaseUnderTest, owner, step, types } from './fixtures.ts';

const HEIGHT = 700;

/** Of the first output of that transaction. */
const scidAt = (txIndex: number): bigint => (BigInt(HEIGHT) << 40n) | (BigInt(txIndex) << 16n);
const confirmedAt = (txIndex: number): FundingStatus => ({
  type: 'confirmed',
  height: HEIGHT,
  txIndex,
  depth: 1,
});
const watchOf = (number: number): FundingWatch => ({
  channelId: channelIdOf(number),
  fundingTxid: bytes(32, number),
  fundingOutputIndex: 0,
  fundingValueSat: 9n,
  scriptPubKey: bytes(34, 1),
  minimumDepth: 3,
});

export function scidCompliance(
  database: () => ManagerDatabaseUnderTest,
  a: () => ManagerStore,
  b: () => ManagerStore,
): void {
  describe('a real scid is a place in the chain, and means the channel that is there', () => {
    let fence: Fence;
    const begin = async (shard: number): Promise<void> => void (fence = await owner(a(), 'scids', shard));
    const commit = async (...units: readonly CommitUnit[]): Promise<readonly string[]> =>
      types(await a().commitSteps(units));
    const birth = (number: number): CommitUnit => step(fence, number, 0n, { watches: [watchOf(number)] });
    const at = (number: number, version: bigint, txIndex: number): CommitUnit =>
      step(fence, number, version, {
        row: { shortChannelId: scidAt(txIndex), holderAliasScid: BigInt(number) },
      });
    const channelAt = async (txIndex: number): Promise<Uint8Array | undefined> =>
      (await b().shardOfScid(scidAt(txIndex)))?.channelId;

    test('a block was replaced: another channel is where the first was', async () => {
      await begin(100);
      await commit(birth(1_000), birth(1_001));
      expect(await commit(at(1_000, 1n, 1))).toEqual(['committed']);
      expect(await channelAt(1)).toEqual(channelIdOf(1_000));
      expect(await commit(at(1_000, 2n, 2))).toEqual(['committed']);
      expect(await channelAt(1)).toBeUndefined();
      expect(await commit(at(1_001, 1n, 1))).toEqual(['committed']);
      expect(await channelAt(1)).toEqual(channelIdOf(1_001));
      expect(await channelAt(2)).toEqual(channelIdOf(1_000));
      // Under its own name each is found all the time.
      expect((await b().shardOfScid(1_000n))?.channelId).toEqual(channelIdOf(1_000));
    });

    test.each([
      [1_011, 1_012],
      [1_014, 1_013],
    ])(
      'it hears so before the first (%i before %i): what chain-monitor sees counts',
      async (second, first) => {
        await begin(101);
        await commit(birth(first), birth(second));
        await database().reportFundingStatus(channelIdOf(first), confirmedAt(first));
        expect(await commit(at(first, 1n, first))).toEqual(['committed']);
        await database().reportFundingStatus(channelIdOf(first), { type: 'unconfirmed' });
        await database().reportFundingStatus(channelIdOf(second), confirmedAt(first));
        expect(await commit(at(second, 1n, first))).toEqual(['committed']);
        expect(await channelAt(first)).toEqual(channelIdOf(second));
        expect(await commit(step(fence, first, 2n))).toEqual(['committed']);
        expect(await channelAt(first)).toEqual(channelIdOf(second));
      },
    );
  });
}
