/** A funding with the real signer: planned, registered, ordered, and signed when there is a way back, in this order. */
import { type Harness, payFrom, settle, startHarness } from '@fulmen/chain-monitor/testing/harness';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { decodeTx, displayHash } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import { type Content, FUNDING_SAT, KEPT, START, registrationOf } from '@fulmen/signer/testing/channel';
import { SignerPairs } from '@fulmen/signer/testing/pair';
import type { FundingWatch } from '@fulmen/store';
import { storeRawTx } from '@fulmen/testing/devchain';
import { afterEach, expect, test } from 'vitest';

const pairs = new SignerPairs(secp256k1);
const open: Harness[] = [];
afterEach(async () => {
  for (const chain of open.splice(0)) await chain.stop();
  await pairs.stopAll();
});

/** A channel of Alice's with this content, whose funding is ordered, beside a signer that lets 1,000 sat go to strangers. */
async function ordered(content: Content) {
  const { parties } = pairs;
  const options = { onchain: { velocitySat: 1_000n } };
  const harness = { alice: await pairs.start('alice', { options }), bob: await pairs.start('bob') };
  const chain = await startHarness({ signerClient: harness.alice.clientWith('claim', 'wallet') });
  open.push(chain);
  const turn = async (): Promise<void> => {
    await chain.clock.advance(1_000);
    await chain.turn();
    await settle();
  };
  await chain.mine(110);
  await turn();
  const { scriptPubkey } = await chain.wallet.newAddress({ addressType: '' });
  const paid = storeRawTx(
    payFrom(chain.devChain, 1, [
      { script: Uint8Array.from(scriptPubkey), valueSat: FUNDING_SAT + 1_000_000n },
    ]).raw,
  );
  if (paid !== undefined) chain.devChain.submit(paid);
  await chain.mine(1);

  const { channelKeysId } = parties.alice;
  const { funding } = registrationOf(secp256k1, parties, 'alice');
  const scriptPubKey = fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey);
  const planned = await chain.wallet.fundChannel({
    channelKeysId: Buffer.from(channelKeysId),
    scriptPubkey: Buffer.from(scriptPubKey),
    valueSat: FUNDING_SAT,
  });
  expect(planned.outputIndex).toBe(0);
  const fundingTxid = Uint8Array.from(planned.txid);
  const { channel } = await pairs.register(harness, fundingTxid);
  channel.content = content;
  const transaction = Uint8Array.from(planned.transaction);
  const watch: FundingWatch = {
    channelId: fundingTxid,
    fundingTxid,
    fundingOutputIndex: 0,
    fundingValueSat: FUNDING_SAT,
    scriptPubKey,
    minimumDepth: 1,
  };
  chain.manager.channels.set(toHex(fundingTxid), { row: { channelKeysId, holderIsFunder: true } });
  chain.watch(watch);
  chain.manager.broadcasts.push({ kind: 'funding', channelId: fundingTxid, transactions: [transaction] });
  const inMempool = () => chain.devChain.mempool.get(displayHash(fundingTxid))?.stored.tx;
  await turn();
  expect(inMempool()).toBeUndefined();
  expect(await chain.metrics.registry.metrics()).toContain(
    'fulmen_chain_unsigned_fundings{service="chain-monitor"} 1',
  );
  return { chain, channel, turn, watch, transaction, inMempool };
}

test('a funding is broadcast once the first commitments are validated and signed, whatever the velocity limit', async () => {
  const { chain, channel, turn, transaction, inMempool } = await ordered(KEPT);
  await channel.open();
  await turn();
  await turn();
  const unsigned = decodeTx(transaction);
  expect(inMempool()?.outputs).toEqual(unsigned.ok && unsigned.value.outputs);
  expect(await chain.metrics.registry.metrics()).toContain(
    'fulmen_chain_unsigned_fundings{service="chain-monitor"} 0',
  );
  expect(chain.clock.failures).toEqual([]);
});

test('one that gives the counterparty more than may go to strangers ends, and nothing stays set apart', async () => {
  const { chain, channel, turn, watch, inMempool } = await ordered(START);
  await channel.open();
  await turn();
  expect(chain.status(watch)).toMatchObject({
    type: 'lost',
    reason: expect.stringContaining('policy-onchain-velocity'),
  });
  expect((await chain.wallet.getBalance({})).confirmedSat).toBe(FUNDING_SAT + 1_000_000n);
  await chain.mine(1);
  expect([inMempool(), chain.state.broadcasts.size, chain.status(watch)?.type]).toEqual([
    undefined,
    0,
    'lost',
  ]);
  expect(chain.clock.failures).toEqual([]);
});
