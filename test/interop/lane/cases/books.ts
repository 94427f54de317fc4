/** The books over channels that end: what each side had, and that every satoshi is accounted for. */
import {
  ANCHOR_VALUE_SAT,
  chainTransactions,
  descendants,
} from '../../../e2e/main-job/chain-transactions.ts';
import { ensure } from '../../../e2e/main-job/waiting.ts';
import type { InteropPeer } from '../peer.ts';
import type { World } from '../world.ts';
import { display, hex, mineUntilSettled } from './closing.ts';

/** What each had before, and which channels are to end. */
export interface Books {
  readonly height: number;
  /** Outside of every wallet: in the vault. */
  readonly vaultSat: bigint;
  /** In the wallet and in closed channels. */
  readonly fleetSat: bigint;
  /** Anchors of channels that earlier cases closed, which the fleet may bring home meanwhile. */
  readonly oldAnchors: ReadonlySet<string>;
  readonly fleetInChannelsMsat: bigint;
  readonly peers: readonly {
    readonly peer: InteropPeer;
    readonly walletSat: bigint;
    readonly inChannelsMsat: bigint;
  }[];
  readonly channels: readonly {
    readonly channelId: string;
    readonly fundingTxid: string;
    readonly fundingVout: number;
    /** `the fleet`, or the name of the peer: who pays for both anchors. */
    readonly funder: string;
  }[];
}

/** A block that clears the mempool can ripen what is published next: an older anchor's, a sweep's of the one after. */
const QUIET_ATTEMPTS = 10;
const THE_FLEET = 'the fleet';

/** Opens the books over the channels with these peers; nothing may be in flight. */
export async function openBooks(world: World, ...peers: readonly InteropPeer[]): Promise<Books> {
  for (let attempt = 0; attempt < QUIET_ATTEMPTS; attempt++) {
    if ((await world.chain.mempool()).length > 0) await world.mine(1);
    const books = await readBooks(world, peers);
    // What was published while the books were read is in some of their lines only.
    if ((await world.chain.mempool()).length === 0) return books;
  }
  throw new Error(`the mempool was not quiet in ${QUIET_ATTEMPTS} blocks`);
}

async function readBooks(world: World, peers: readonly InteropPeer[]): Promise<Books> {
  const channels = (await Promise.all(peers.map((peer) => world.fleetChannels(peer)))).flat();
  const theirs = async (peer: InteropPeer): Promise<Books['peers'][number]> => ({
    peer,
    walletSat: await peer.onchainSat(),
    inChannelsMsat: channels
      .filter(({ counterpartyNodeId }) => hex(counterpartyNodeId) === peer.nodeId)
      .reduce((sum, { counterpartyBalanceMsat }) => sum + counterpartyBalanceMsat, 0n),
  });
  return {
    height: await world.chain.height(),
    vaultSat: await vaultSat(world),
    fleetSat: await fleetSat(world),
    oldAnchors: await unspentAnchors(world),
    fleetInChannelsMsat: channels.reduce((sum, { holderBalanceMsat }) => sum + holderBalanceMsat, 0n),
    peers: await Promise.all(peers.map(theirs)),
    channels: channels.map(
      ({ channelId, fundingTxid, fundingOutputIndex, holderIsFunder, counterpartyNodeId }) => ({
        channelId: hex(channelId),
        fundingTxid: display(fundingTxid),
        fundingVout: fundingOutputIndex,
        funder: holderIsFunder
          ? THE_FLEET
          : (peers.find(({ nodeId }) => nodeId === hex(counterpartyNodeId))?.name ?? ''),
      }),
    ),
  };
}

async function unspentAnchors(world: World): Promise<ReadonlySet<string>> {
  const { channels } = await world.node.channels.listClosingChannels(
    { includeResolved: true, limit: 1_000 },
    world.node.auth(),
  );
  return new Set(
    channels
      .flatMap(({ outputs }) => outputs)
      .filter(({ kind, status }) => kind === 'anchor' && status !== 'spent')
      .map(({ txid, outputIndex }) => `${display(txid)}:${outputIndex}`),
  );
}

/** Also what is unconfirmed. */
async function vaultSat({ chain, vault }: World): Promise<bigint> {
  return BigInt(Math.round(Number(await chain.rpc.call('getreceivedbyaddress', vault.address, 0)) * 1e8));
}

async function fleetSat(world: World): Promise<bigint> {
  const { confirmedSat, unconfirmedSat, reservedSat, limboSat } = await world.node.onchain.getBalance(
    {},
    world.node.auth(),
  );
  return confirmedSat + unconfirmedSat + reservedSat + limboSat;
}

/**
 * Mines until everything is home, and accounts for every satoshi: together they have what they had, less the fees of
 * the transactions that came of the channels, and the anchors that nobody claimed; and nobody lost more than those.
 * @param paidMsat what a peer received beside its balance; negative: paid. The fleet's is the rest.
 * @param toVault whose balance went to the vault
 */
export async function settleBooks(
  world: World,
  books: Books,
  paidMsat: ReadonlyMap<InteropPeer, bigint> = new Map(),
  { whose = 'all', toVault }: { readonly whose?: 'all' | 'fleet'; readonly toVault?: 'fleet' | 'peer' } = {},
): Promise<void> {
  await mineUntilSettled(world, books, whose);
  const { feesSat, anchorsSat, oldSat, takenSat } = await costs(world, books);
  const vaultMsat = ((await vaultSat(world)) - books.vaultSat) * 1_000n;
  ensure(vaultMsat > 0n === (toVault !== undefined), `the vault received ${vaultMsat} msat`);
  const paidToPeers = [...paidMsat.values()].reduce((sum, msat) => sum + msat, 0n);
  const accounts = [
    {
      who: THE_FLEET,
      beforeMsat: (books.fleetSat + oldSat) * 1_000n + books.fleetInChannelsMsat - paidToPeers,
      afterMsat: (await fleetSat(world)) * 1_000n + (toVault === 'fleet' ? vaultMsat : 0n),
    },
    ...(await Promise.all(
      books.peers.map(async ({ peer, walletSat, inChannelsMsat }) => ({
        who: peer.name,
        beforeMsat: walletSat * 1_000n + inChannelsMsat + (paidMsat.get(peer) ?? 0n),
        afterMsat: (await peer.onchainSat()) * 1_000n + (toVault === 'peer' ? vaultMsat : 0n),
      })),
    )),
  ];
  const costSat = feesSat + anchorsSat;
  const told = accounts.map(({ who, beforeMsat, afterMsat }) => `${who} ${beforeMsat} → ${afterMsat} msat`);
  const lostMsat = accounts.reduce((sum, { beforeMsat, afterMsat }) => sum + beforeMsat - afterMsat, 0n);
  ensure(
    lostMsat === costSat * 1_000n,
    `${told.join(', ')}: ${lostMsat} msat went, of which fees ${feesSat} sat, anchors ${anchorsSat} sat`,
  );
  for (const { who, beforeMsat, afterMsat } of accounts) {
    const lost = beforeMsat - afterMsat;
    // The funder pays for both anchors, of which the other brings its own home, where fees are low for less.
    const paidSat = takenSat
      .filter(({ funder }) => funder === who)
      .reduce((sum, { valueSat }) => sum + valueSat, 0n);
    const gotSat = takenSat
      .filter(({ funder }) => funder !== who)
      .reduce((sum, { valueSat }) => sum + valueSat, 0n);
    // What one lacks of a satoshi the other may have in full.
    ensure(
      lost > -(gotSat + 1n) * 1_000n && lost < (costSat + paidSat + 1n) * 1_000n,
      `${who} lost ${lost} msat: ${told.join(', ')}, fees ${feesSat} sat, anchors ${anchorsSat} sat`,
    );
  }
}

interface Costs {
  readonly feesSat: bigint;
  readonly anchorsSat: bigint;
  readonly oldSat: bigint;
  /** What at most the other side took of what the funder paid for anchors: one for each channel of which any was claimed. */
  readonly takenSat: readonly { readonly funder: string; readonly valueSat: bigint }[];
}

/** Fees of what came of the channels, the anchors that were left or taken, and what came of older ones. */
async function costs(world: World, { height, channels, oldAnchors }: Books): Promise<Costs> {
  const transactions = await chainTransactions(world, height);
  const spent = new Set<string>();
  for (const { inputs } of transactions.values())
    for (const { txid, vout } of inputs) spent.add(`${txid}:${vout}`);
  const fundings = new Set(channels.map(({ fundingTxid, fundingVout }) => `${fundingTxid}:${fundingVout}`));
  const closing = new Set(
    [...transactions]
      .filter(([, { inputs }]) => inputs.some(({ txid, vout }) => fundings.has(`${txid}:${vout}`)))
      .map(([txid]) => txid),
  );
  ensure(closing.size === channels.length, `${closing.size} of ${channels.length} channels closed`);
  let feesSat = 0n;
  let anchorsSat = 0n;
  const ofChannels = new Set([...closing, ...descendants(transactions, closing)]);
  for (const txid of ofChannels) feesSat += transactions.get(txid)?.feeSat ?? 0n;
  for (const txid of closing)
    for (const [vout, valueSat] of (transactions.get(txid)?.outputsSat ?? []).entries())
      if (valueSat === ANCHOR_VALUE_SAT && !spent.has(`${txid}:${vout}`)) anchorsSat += valueSat;
  let oldSat = 0n;
  for (const [sweepTxid, { inputs, feeSat }] of transactions) {
    const old = inputs.filter(({ txid, vout }) => oldAnchors.has(`${txid}:${vout}`));
    if (old.length === 0) continue;
    // One sweep may bring home both: its fee is counted once.
    oldSat += BigInt(old.length) * ANCHOR_VALUE_SAT - (ofChannels.has(sweepTxid) ? 0n : feeSat);
  }
  const isClaimed = (txid: string): boolean =>
    (transactions.get(txid)?.outputsSat ?? []).some(
      (valueSat, vout) => valueSat === ANCHOR_VALUE_SAT && spent.has(`${txid}:${vout}`),
    );
  const takenSat = channels.flatMap(({ fundingTxid, fundingVout, funder }) => {
    const closed = [...transactions].find(([, { inputs }]) =>
      inputs.some(({ txid, vout }) => txid === fundingTxid && vout === fundingVout),
    );
    return closed !== undefined && isClaimed(closed[0]) ? [{ funder, valueSat: ANCHOR_VALUE_SAT }] : [];
  });
  return { feesSat, anchorsSat, oldSat, takenSat };
}
