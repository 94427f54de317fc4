/** What the cases of closing channels share: asking for a close, and mining until it is over. */
import { createHash } from 'node:crypto';
import type { ClosingChannel } from '@fulmen/proto/chain/v1/chain';
import type { CloseChannelRequest } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { CloseOptions, InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import type { Books } from './books.ts';

/** Past every delay and every expiry of these cases. */
const MAX_BLOCKS = 3_000;
/** Where nobody says what is waited for: another depth that buries something. */
const UNSAID_BLOCKS = 6;
/** Payees' claims, and the blocks that they may want for that. */
const CLAIM_LATE_MS = 3_000;
const CLAIM_BLOCKS = 10;
/** How long a claim may take from the block that allows it to the mempool. */
const CLAIM_MS = 800;
/** How long what a block says may take to a payer's node. */
const TOLD_MS = 1_000;

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const display = (txid: Uint8Array): string => hex(Uint8Array.from(txid).reverse());

/**
 * The fleet closes its only channel with a peer. Where the peer pays the fee, what it thinks right will do: the fleet's
 * minimum grows with what bitcoind has seen in the cases before.
 */
export async function closeByFleet(
  world: World,
  peer: InteropPeer,
  how: 'cooperative' | 'force',
  options: Pick<CloseChannelRequest, 'feerateSatPerKw' | 'maxFeerateSatPerKw' | 'scriptPubkey'> = {},
): Promise<void> {
  const [channel] = await world.fleetChannels(peer);
  ensure(channel !== undefined, 'there is a channel');
  const { channelId, holderIsFunder } = channel;
  const isFree = how === 'cooperative' && !holderIsFunder;
  await world.node.channels.closeChannel(
    { channelId, force: how === 'force', ...(isFree && { feerateSatPerKw: 253 }), ...options },
    world.node.auth(),
  );
}

export async function closeByPeer(
  peer: InteropPeer,
  how: 'cooperative' | 'force',
  options?: CloseOptions,
): Promise<void> {
  const [channel] = await peer.channels();
  ensure(channel !== undefined, 'there is a channel');
  await peer.close(channel.channelId, how, options);
}

/**
 * One side's commitment closes each of these channels of the books, and is in a block.
 * @returns the closing transaction of the first
 */
export async function forceClose(
  world: World,
  books: Books,
  by: 'peer' | 'fleet',
  peers: readonly InteropPeer[],
): Promise<string> {
  const [peer, ...others] = peers;
  if (peer === undefined) {
    const txids = await Promise.all(books.channels.map((_, index) => closingInMempool(world, books, index)));
    await world.chain.mine(1);
    return txids[0] ?? '';
  }
  if (by === 'peer' || peer.kind === 'lnd') {
    if (by === 'peer') await closeByPeer(peer, 'force');
    else await closeByFleet(world, peer, 'force');
    return forceClose(world, books, by, others);
  }
  // Told by the fleet, LDK broadcasts its own commitment at once, and either may win; LND waits.
  let closingTxid = '';
  await peer.whileAway(async () => {
    await closeByFleet(world, peer, 'force');
    closingTxid = await forceClose(world, books, by, others);
  });
  return closingTxid;
}

/**
 * Mines in steps as long as what is waited for allows.
 * @param whose the peers' own words count, or the fleet's alone: a peer that lost its data believes what is not so
 */
export async function mineUntilSettled(
  world: World,
  books: Books,
  whose: 'all' | 'fleet' = 'all',
): Promise<void> {
  for (let mined = 0; mined < MAX_BLOCKS;) {
    const blocks = await blocksToWait(world, books, whose);
    if (blocks === 0) return;
    await world.mine(blocks);
    mined += blocks;
  }
  const rest = await closings(world, books);
  ensure(false, `not settled after ${MAX_BLOCKS} blocks: ${rest.map(tell).join('; ')}`);
}

/**
 * Mines until these payments ended, whose outcome on the chain is to be told upstream: there the deadlines go on, so
 * that it is only a few blocks at a time, with time for the telling between them.
 * @param outcome `expiry`: what is contested times out, so that the next expiry is waited for at once; `claim`: it is claimed
 */
export async function mineUntilEnded(
  world: World,
  books: Books,
  outcome: 'expiry' | 'claim',
  payments: readonly Promise<unknown>[],
): Promise<void> {
  let isOver = false;
  const over = Promise.all(payments).finally(() => (isOver = true));
  over.catch(() => undefined);
  for (let mined = 0; mined < MAX_BLOCKS;) {
    const waitsMs = performance.now() + TOLD_MS;
    await until('an end, or time for more blocks', async () =>
      isOver || performance.now() >= waitsMs ? true : undefined,
    );
    if (isOver) {
      await over;
      return;
    }
    const blocks =
      outcome === 'claim' ? 1 : Math.max(await blocksToWait(world, books, 'all', UNSAID_BLOCKS), 1);
    await world.mine(blocks);
    mined += blocks;
  }
  ensure(false, `a payment did not end in ${MAX_BLOCKS} blocks`);
}

/** @param mostToMature the most blocks to wait for what only matures, nobody contending */
async function blocksToWait(
  world: World,
  books: Books,
  whose: 'all' | 'fleet',
  mostToMature = MAX_BLOCKS,
): Promise<number> {
  const peers = whose === 'fleet' ? [] : books.peers;
  const isUnderWay = async (): Promise<boolean> => (await world.chain.mempool()).length > 0;
  const waitsMs = performance.now() + CLAIM_MS;
  return until('a next block to wait for', async () => {
    if (await isUnderWay()) return 1;
    const closed = await closings(world, books);
    const pending = (await Promise.all(peers.map(({ peer }) => peer.pendingCloses()))).flat();
    const outputs = closed.flatMap((channel) => channel.outputs).filter(({ kind }) => kind !== 'anchor');
    const waiting = outputs.filter(({ status }) => status !== 'spent');
    const isHome =
      closed.length === books.channels.length &&
      closed.every(({ stage }) => stage !== 'unconfirmed') &&
      waiting.length === 0;
    if (isHome && pending.length === 0 && !(await isUnderWay())) return 0;
    // A claim may be on its way to the mempool.
    if (performance.now() < waitsMs) return undefined;
    const height = await world.chain.height();
    const later = (what: readonly { readonly untilHeight?: number | undefined }[]): readonly number[] =>
      what.flatMap(({ untilHeight = 0 }) => (untilHeight > height ? [untilHeight] : []));
    // An expiry is not passed by; where nobody contends any more, all that matures is waited for at once.
    const contested = waiting.filter(({ kind }) => kind.startsWith('htlc_'));
    const heights = contested.length > 0 ? later(contested) : later([...waiting, ...pending]);
    if (heights.length === 0) return UNSAID_BLOCKS;
    if (contested.length > 0) return Math.min(...heights) - height;
    return Math.min(Math.max(...heights) - height, mostToMature);
  });
}

/**
 * The payees of held payments let their preimages out: on the chain, for their channels are closed. All are told before
 * a block is mined for one of them: LND claims some blocks after the close, and LDK fails what it has not claimed some
 * forty blocks before its expiry.
 */
export async function claimOnChain(
  world: World,
  ...claims: readonly { readonly payee: InteropPeer; readonly paymentHash: string }[]
): Promise<void> {
  const from = await world.chain.height();
  for (const { payee, paymentHash } of claims) await payee.settle(paymentHash);
  for (let mined = 0; mined < CLAIM_BLOCKS; mined += 1) {
    const waitsMs = performance.now() + CLAIM_LATE_MS;
    const isOut = await until('the claims or their time', async () => {
      const shown = await preimagesShown(world, from);
      if (claims.every(({ paymentHash }) => shown.has(paymentHash))) return 'out';
      return performance.now() < waitsMs ? undefined : 'late';
    });
    if (isOut === 'out') return;
    // LND makes its claims when it sees a block.
    await world.mine(1);
  }
  ensure(false, 'a payee claims nothing');
}

/** The payment hashes whose preimages are in the mempool, or in blocks above this height. */
async function preimagesShown({ chain }: World, from: number): Promise<ReadonlySet<string>> {
  interface Spending {
    readonly vin: readonly { readonly txinwitness?: readonly string[] }[];
  }
  const transactions: Spending[] = [];
  for (const txid of await chain.mempool())
    transactions.push((await chain.rpc.call('getrawtransaction', txid, true)) as Spending);
  for (let height = await chain.height(); height > from; height -= 1) {
    const block = await chain.rpc.call('getblock', await chain.rpc.call('getblockhash', height), 2);
    transactions.push(...(block as { readonly tx: readonly Spending[] }).tx);
  }
  return new Set(
    transactions
      .flatMap(({ vin }) => vin.flatMap(({ txinwitness = [] }) => txinwitness))
      .filter((element) => element.length === 64)
      .map((preimage) => createHash('sha256').update(Buffer.from(preimage, 'hex')).digest('hex')),
  );
}

/** The fleet's word about the channels of the books, as far as they are closing. */
export async function closings(
  world: World,
  { channels }: Pick<Books, 'channels'>,
): Promise<readonly ClosingChannel[]> {
  const answer = await world.node.channels.listClosingChannels(
    { includeResolved: true, limit: 1_000 },
    world.node.auth(),
  );
  const ids = new Set(channels.map(({ channelId }) => channelId));
  return answer.channels.filter(({ channelId }) => ids.has(hex(channelId)));
}

/** The only channel of the books is closed by this transaction, as the fleet tells it. */
export async function ensureClosed(
  world: World,
  books: Books,
  closeType: string,
  closingTxid: string,
): Promise<void> {
  const closed = await until('the close in the fleet’s books', async () =>
    (await closings(world, books)).find(({ stage }) => stage !== 'unconfirmed'),
  );
  ensure(closed.closeType === closeType, `closed as ${closed.closeType}, not ${closeType}`);
  ensure(
    display(closed.closingTxid) === closingTxid,
    `closed by ${display(closed.closingTxid)}, not ${closingTxid}`,
  );
}

function tell({ closeType, stage, outputs }: ClosingChannel): string {
  const waiting = outputs.filter(({ status }) => status !== 'spent');
  return `${closeType} ${stage}, ${waiting.map(({ kind, status, waitsFor }) => `${kind} ${status} ${waitsFor}`).join(', ')}`;
}

/** The id of the transaction that closes a channel of the books, once it is in the mempool. */
export async function closingInMempool(world: World, books: Books, index = 0): Promise<string> {
  const channel = books.channels[index];
  ensure(channel !== undefined, 'there is a channel');
  return until('a closing transaction in the mempool', () =>
    world.chain.spenderInMempool(channel.fundingTxid, channel.fundingVout),
  );
}
