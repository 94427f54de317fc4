// Two LDK wallets on a chain: the proof that the wallet process works, on any chain that speaks
// Bitcoin Core's JSON-RPC. The test beside this file runs it on the development chain.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { ChainRpc } from './chain.ts';
import { LdkWallet } from './client.ts';
import { scidFromText } from './ldk.ts';

/** The chain under the scenario. */
export type ScenarioChain = {
  readonly url: string;
  /** Mines blocks, the transactions of the mempool in the first. */
  mine(count: number): Promise<void>;
  /** Sends money to an address; the next block has it. */
  fund(address: string, sat: number): Promise<void>;
  /** Takes the last blocks away and mines as many and one more; the mempool gets their transactions. */
  reorg(depth: number): Promise<void>;
};

/** Runs the scenario in a folder; throws where it goes wrong. */
export async function runScenario(
  chain: ScenarioChain,
  options: { readonly dir: string; readonly anchors: boolean; readonly log?: (text: string) => void },
): Promise<void> {
  const { dir, anchors, log = () => undefined } = options;
  const start = (name: string) =>
    LdkWallet.start({ dataDir: path.join(dir, name), chainUrl: chain.url, anchors, pollMs: 50 });
  fs.mkdirSync(dir, { recursive: true });
  const [alice, bob] = await Promise.all([start('alice'), start('bob')]);
  const mine = async (count: number) => {
    await chain.mine(count);
    await Promise.all([alice.call('sync'), bob.call('sync')]);
  };
  try {
    for (const wallet of [alice, bob]) await chain.fund((await wallet.call('newAddress')).address, 5_000_000);
    await mine(1);
    assert.equal((await alice.call('info')).onchainSat, 5_000_000);
    log('funded');

    await alice.call('connect', { nodeId: bob.nodeId, host: '127.0.0.1', port: bob.port });
    await alice.event('peer_connected');
    await alice.call('openChannel', { nodeId: bob.nodeId, sat: 1_000_000, pushMsat: 200_000_000n });
    const pending = await alice.event('channel_pending');
    await chainKnows(chain, pending.fundingTxid);
    await mine(3);
    await Promise.all([alice.event('channel_ready'), bob.event('channel_ready')]);
    const [channel] = await alice.call('listChannels');
    assert.ok(channel !== undefined && channel.state === 'usable' && channel.anchors === anchors);
    log(`channel ${channel.shortChannelId} is open, anchors ${channel.anchors}`);

    // Pay both ways.
    const invoice = await bob.call('createInvoice', { amountMsat: 10_000_000n, description: 'a coffee' });
    const paid = await alice.payAndWait({ bolt11: invoice.bolt11 });
    assert.equal(paid.event, 'payment_sent');
    await bob.event('payment_received', (event) => event.paymentHash === invoice.paymentHash);
    const back = await alice.call('createInvoice', { amountMsat: 5_000_000n });
    assert.equal((await bob.payAndWait({ bolt11: back.bolt11 })).event, 'payment_sent');
    const { paymentId } = await alice.call('keysend', { nodeId: bob.nodeId, amountMsat: 1_000_000n });
    assert.equal((await alice.outcome(paymentId)).event, 'payment_sent');
    log('paid both ways, and by keysend');

    // A hand-made route: to an unknown hash it fails at the end, with the code of BOLT 4.
    const unknown = await alice.call('payRaw', {
      hops: [{ nodeId: bob.nodeId, feeMsat: 1_000_000n, cltvDelta: 40 }],
      paymentHash: '11'.repeat(32),
    });
    assert.equal((await alice.outcome(unknown.paymentId)).event, 'payment_failed');
    const failure = await alice.event(
      'payment_path_failed',
      (event) => event.paymentId === unknown.paymentId,
    );
    assert.equal(failure.failureCode, 0x400f);
    assert.equal(failure.failureFrom, bob.nodeId);
    const raw = await bob.call('createInvoice', { amountMsat: 2_000_000n });
    const rawPaid = await alice.call('payRaw', {
      hops: [
        {
          nodeId: bob.nodeId,
          feeMsat: 2_000_000n,
          cltvDelta: 40,
          shortChannelId: channel.shortChannelId ?? '',
        },
      ],
      paymentHash: raw.paymentHash,
      paymentSecret: raw.paymentSecret,
    });
    assert.equal((await alice.outcome(rawPaid.paymentId)).event, 'payment_sent');
    assert.ok(scidFromText(channel.shortChannelId ?? '') > 0n);
    log('hand-made routes work');

    // A payment in flight survives a kill of both ends' processes.
    const held = await bob.call('createInvoice', { amountMsat: 3_000_000n, hold: true });
    const inFlight = await alice.call('pay', { bolt11: held.bolt11 });
    await bob.event('payment_claimable', (event) => event.paymentHash === held.paymentHash);
    await Promise.all([alice.kill9(), bob.kill9()]);
    await chain.mine(1);
    await Promise.all([alice.start(), bob.start()]);
    await usable(alice);
    await bob.call('claim', { paymentHash: held.paymentHash });
    assert.equal((await alice.outcome(inFlight.paymentId)).event, 'payment_sent');
    log('a payment survived kill -9 of both');

    // A reorganisation that keeps the funding, while one wallet is away.
    await bob.stop();
    await chain.reorg(2);
    await alice.call('sync');
    await bob.start();
    await usable(alice);
    const after = await bob.call('createInvoice', { amountMsat: 1_000_000n });
    assert.equal((await alice.payAndWait({ bolt11: after.bolt11 })).event, 'payment_sent');
    assert.equal((await bob.call('info')).blockHash, (await alice.call('info')).blockHash);
    log('followed a reorganisation');

    // Cooperative close of this channel, then force close of another.
    await alice.call('closeChannel', { channelId: channel.channelId });
    await alice.event('channel_closed', (event) => event.channelId === channel.channelId);
    await mempoolHasSome(chain);
    await mine(7);
    await swept(bob, chain, channel.channelId);
    const second = await alice.call('openChannel', {
      nodeId: bob.nodeId,
      sat: 500_000,
      pushMsat: 100_000_000n,
    });
    const opened = await alice.event(
      'channel_pending',
      (event) => event.userChannelId === second.userChannelId,
    );
    await chainKnows(chain, opened.fundingTxid);
    await mine(3);
    await alice.event('channel_ready', (event) => event.channelId === opened.channelId);
    const before = await alice.call('balances');
    await alice.call('closeChannel', { channelId: opened.channelId, force: true });
    await mempoolHasSome(chain);
    await mine(7);
    await swept(bob, chain, opened.channelId);
    await mine(145);
    await swept(alice, chain, opened.channelId);
    await mine(1);
    assert.ok((await alice.call('balances')).onchainSat > before.onchainSat + 380_000);
    log('closed in both ways and fetched everything');
  } finally {
    await Promise.all([alice.stop(), bob.stop()]);
  }
}

/** A wallet is set back to an old state and broadcasts it; the other one, LDK too, takes everything. */
export async function runCheat(chain: ScenarioChain, dir: string): Promise<void> {
  const start = (name: string) =>
    LdkWallet.start({ dataDir: path.join(dir, name), chainUrl: chain.url, pollMs: 50 });
  const [alice, bob] = await Promise.all([start('alice'), start('bob')]);
  let cheat: LdkWallet | undefined;
  try {
    for (const wallet of [alice, bob]) await chain.fund((await wallet.call('newAddress')).address, 5_000_000);
    await chain.mine(1);
    await Promise.all([alice.call('sync'), bob.call('sync')]);
    await alice.call('connect', { nodeId: bob.nodeId, host: '127.0.0.1', port: bob.port });
    await alice.event('peer_connected');
    await alice.call('openChannel', { nodeId: bob.nodeId, sat: 1_000_000 });
    const { channelId, fundingTxid } = await alice.event('channel_pending');
    await chainKnows(chain, fundingTxid);
    await chain.mine(3);
    await usable(alice);
    const first = await bob.call('createInvoice', { amountMsat: 50_000_000n });
    assert.equal((await alice.payAndWait({ bolt11: first.bolt11 })).event, 'payment_sent');
    await alice.call('snapshot', { dir: path.join(dir, 'old') });
    const second = await bob.call('createInvoice', { amountMsat: 700_000_000n });
    assert.equal((await alice.payAndWait({ bolt11: second.bolt11 })).event, 'payment_sent');
    await alice.stop();

    cheat = await LdkWallet.start({
      dataDir: path.join(dir, 'old'),
      chainUrl: chain.url,
      offline: true,
      pollMs: 50,
    });
    assert.equal(cheat.nodeId, alice.nodeId);
    await cheat.call('closeChannel', { channelId, force: true });
    await mempoolHasSome(chain);
    await chain.mine(1);
    await bob.call('sync');
    await bob.event('channel_closed', (event) => event.channelId === channelId);
    await until(async () => {
      await chain.mine(1);
      await bob.call('sync');
      const { claimable } = await bob.call('balances');
      return (
        claimable.length === 0 && (await new ChainRpc(chain.url).call<string[]>('getrawmempool')).length === 0
      );
    }, 'an end of Bob’s claims');
    // The whole channel but the anchors and the fees.
    assert.ok((await bob.call('info')).onchainSat > 5_900_000);
  } finally {
    await Promise.all([alice.stop(), bob.stop(), cheat?.stop()]);
  }
}

async function usable(wallet: LdkWallet): Promise<void> {
  await until(
    async () => (await wallet.call('listChannels')).some((channel) => channel.usable),
    'a usable channel',
  );
}

async function swept(wallet: LdkWallet, chain: ScenarioChain, channelId: string): Promise<void> {
  const { txid } = await wallet.event('onchain_sweep', (event) => event.channelId === channelId);
  await chainKnows(chain, txid);
}

/** In the mempool, or in a block already: a wallet follows while blocks are being mined. */
async function chainKnows(chain: ScenarioChain, txid: string): Promise<void> {
  const rpc = new ChainRpc(chain.url);
  const known = () =>
    rpc.call('getrawtransaction', txid).then(
      () => true,
      () => false,
    );
  await until(known, `transaction ${txid}`);
}

async function mempoolHasSome(chain: ScenarioChain): Promise<void> {
  const rpc = new ChainRpc(chain.url);
  await until(
    async () => (await rpc.call<string[]>('getrawmempool')).length > 0,
    'a transaction in the mempool',
  );
}

async function until(check: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await check())) {
    if (Date.now() > deadline) throw new assert.AssertionError({ message: `${what} did not come` });
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
