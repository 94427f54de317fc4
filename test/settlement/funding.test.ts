/** A funding with the real signer: planned, registered, ordered, and signed when there is a way back, in this order. */
import { payFrom, settle, startHarness } from '@fulmen/chain-monitor/testing/harness';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { decodeTx, displayHash } from '@fulmen/bitcoin';
import { secp256k1 } from '@fulmen/crypto/default';
import { FUNDING_SAT, registrationOf } from '@fulmen/signer/testing/channel';
import { SignerPairs } from '@fulmen/signer/testing/pair';
import { storeRawTx } from '@fulmen/testing/devchain';
import { expect, test } from 'vitest';

test('a funding is broadcast once the first holder commitment is validated, whatever the velocity limit', async () => {
  const pairs = new SignerPairs(secp256k1);
  const { parties } = pairs;
  const options = { onchain: { velocitySat: 1_000n } };
  const harness = { alice: await pairs.start('alice', { options }), bob: await pairs.start('bob') };
  const chain = await startHarness({ signerClient: harness.alice.clientWith('claim', 'wallet') });
  const turn = async (): Promise<void> => {
    await chain.clock.advance(1_000);
    await chain.turn();
    await settle();
  };
  try {
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
    const planned = await chain.wallet.fundChannel({
      channelKeysId: Buffer.from(channelKeysId),
      scriptPubkey: Buffer.from(
        fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      ),
      valueSat: FUNDING_SAT,
    });
    expect(planned.outputIndex).toBe(0);
    const fundingTxid = Uint8Array.from(planned.txid);
    const { channel } = await pairs.register(harness, fundingTxid);
    const transaction = Uint8Array.from(planned.transaction);
    chain.manager.broadcasts.push({ kind: 'funding', channelId: fundingTxid, transactions: [transaction] });
    const inMempool = () => chain.devChain.mempool.get(displayHash(fundingTxid))?.stored.tx;
    await turn();
    expect(inMempool()).toBeUndefined();
    expect(await chain.metrics.registry.metrics()).toContain(
      'fulmen_chain_unsigned_fundings{service="chain-monitor"} 1',
    );

    await channel.open();
    await turn();
    await turn();
    const unsigned = decodeTx(transaction);
    expect(inMempool()?.outputs).toEqual(unsigned.ok && unsigned.value.outputs);
    expect(await chain.metrics.registry.metrics()).toContain(
      'fulmen_chain_unsigned_fundings{service="chain-monitor"} 0',
    );
    expect(chain.clock.failures).toEqual([]);
  } finally {
    await chain.stop();
    await pairs.stopAll();
  }
});
