/** What an opening may promise or leave out: the script of the close, confirmations, the place of the channel. */
import { secp256k1 } from '@fulmen/crypto/default';
import { decodeInvoice } from '@fulmen/invoice';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import { ensure, until } from '../../../e2e/main-job/waiting.ts';
import type { Case } from '../case.ts';
import { Ldk } from '../ldk.ts';
import type { InteropPeer, PeerKind } from '../peer.ts';
import type { World } from '../world.ts';
import { display } from './closing.ts';
import { ensureSucceeded, invoiceOfFleet, payByFleet, peerPays } from './support.ts';

const group = 'open';

/** LND offers these only when it is told to; LDK always does. */
const LND_ALIASES = ['--protocol.option-scid-alias', '--protocol.zero-conf'];
/** What the fleet asks for by default, and what the peers are told to ask for. */
const FLEET_DEPTH = 6;
const PEER_DEPTH: Readonly<Record<PeerKind, number>> = {
  ldk: 3,
  // Its default, which its API does not change.
  'ldk-node': 6,
  lnd: 3,
};

async function onlyChannel(world: World, peer: InteropPeer): Promise<Channel> {
  const [channel] = await world.fleetChannels(peer);
  ensure(channel !== undefined, 'the fleet has a channel with the peer');
  return channel;
}

/** Each pays the other. */
async function payBothWays(world: World, peer: InteropPeer, amountMsat: bigint): Promise<void> {
  // After a death a shard may have no owner for a moment; the same payment may be asked for again.
  const paid = await peerPays(peer, () => invoiceOfFleet(world, amountMsat));
  ensureSucceeded(paid, 'the peer pays');
  const { bolt11 } = await peer.invoice({ amountMsat });
  const payment = await until('the fleet has tried to pay', () => payByFleet(world, bolt11));
  ensure(payment.status === 'succeeded', `the fleet pays: ${payment.failureReason}`);
  await world.agree(peer);
}

// ------------------------------------------------------------------------------------------ shutdown scripts

/** Where the fleet's signer lets a channel close to, beside its wallet. */
function vaultScript({ vault }: World): string {
  return Buffer.from(vault.scriptPubkey).toString('hex');
}

async function closeTo(
  world: World,
  peer: InteropPeer,
  by: 'peer' | 'fleet',
  scriptPubKey: string,
): Promise<void> {
  const channel = await onlyChannel(world, peer);
  const channelId = Buffer.from(channel.channelId).toString('hex');
  if (by === 'peer') await peer.close(channelId, 'cooperative');
  else
    await world.node.channels.closeChannel({ channelId: channel.channelId, force: false }, world.node.auth());
  const txid = await until('the mutual close is in the mempool', () =>
    world.chain.spenderInMempool(display(channel.fundingTxid), channel.fundingOutputIndex),
  );
  const scripts = await world.chain.outputScripts(txid);
  ensure(scripts.includes(scriptPubKey), `the close pays ${scripts.join(', ')}`);
  await world.mine(1);
}

function promisedByFleet(closedBy: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the fleet, with a shutdown script promised; closed by the ${closedBy}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      const stranger = await world.chain.scriptOf(await world.chain.newAddress());
      const refused = await world
        .openByFleet(peer, { fundingSat: 1_000_000n, shutdownScript: stranger })
        .then(() => 'opened', String);
      ensure(refused.includes('policy-channel-shutdown-script'), `a script of nobody: ${refused}`);
      await world.open(peer, 'fleet', { shutdownScript: vaultScript(world) });
      const { channelId } = await onlyChannel(world, peer);
      const other = await world.node.channels
        .closeChannel(
          { channelId, force: false, scriptPubkey: Buffer.from(stranger, 'hex') },
          world.node.auth(),
        )
        .then(() => 'closing', String);
      ensure(other.includes('another script was committed to'), `another script than promised: ${other}`);
      await closeTo(world, peer, closedBy, vaultScript(world));
    },
  };
}

function promisedByPeer(closedBy: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the peer, with a shutdown script promised; closed by the ${closedBy}`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind);
      await world.connect(peer);
      const closeAddress = await world.chain.newAddress();
      // LDK promises a script of its own with every opening, and the fleet holds it to that one.
      await world.open(peer, 'peer', kind === 'ldk' ? {} : { closeAddress });
      if (kind === 'lnd') return closeTo(world, peer, closedBy, await world.chain.scriptOf(closeAddress));
      const had = await peer.onchainSat();
      const channel = await onlyChannel(world, peer);
      if (closedBy === 'peer')
        await peer.close(Buffer.from(channel.channelId).toString('hex'), 'cooperative');
      else
        await world.node.channels.closeChannel(
          { channelId: channel.channelId, force: false },
          world.node.auth(),
        );
      await until('the mutual close is in the mempool', async () =>
        (await world.isSpent(display(channel.fundingTxid), channel.fundingOutputIndex)) ? true : undefined,
      );
      await until('the peer has its money', async () => {
        await world.mine(1);
        return (await peer.onchainSat()) > had ? true : undefined;
      });
    },
  };
}

// ------------------------------------------------------------------------------------------ depth

function afterDepth(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the ${by}, used at the depth that the ${by === 'peer' ? 'fleet' : 'peer'} asks for and no block before`,
    over: 'peers',
    run: async (world, kind) => {
      const peerDepth = PEER_DEPTH[kind];
      const depth = by === 'peer' ? FLEET_DEPTH : peerDepth;
      const peer = await world.peer(kind, [`--bitcoin.defaultchanconfs=${peerDepth}`], {
        handshake: { minimumDepth: peerDepth },
      });
      await world.connect(peer);
      await world.startOpening(peer, by);
      await world.mine(depth - 1);
      await until('the fleet has seen the funding', async () =>
        (await onlyChannel(world, peer)).shortChannelId === 0n ? undefined : true,
      );
      // Whoever is not asked to wait may have said that it is ready; neither uses the channel.
      const { phase } = await onlyChannel(world, peer);
      ensure(phase !== 'open', `at depth ${depth - 1} the fleet says ${phase}`);
      ensure(!(await peer.channels()).some(({ isUsable }) => isUsable), 'the peer uses it one block early');
      await world.mine(1);
      await world.usable(peer);
      await payBothWays(world, peer, 5_000_000n);
    },
  };
}

// ------------------------------------------------------------------------------------------ aliases

/** Every scid in the hints of an invoice. */
function hintsOf(bolt11: string): readonly bigint[] {
  const invoice = decodeInvoice(secp256k1, bolt11);
  ensure(invoice.ok, 'the peer’s invoice can be read');
  return invoice.value.routeHints.flatMap((hops) => hops.map(({ shortChannelId }) => shortChannelId));
}

function scidText(scid: bigint): string {
  return `${scid >> 40n}x${(scid >> 16n) & 0xffffffn}x${scid & 0xffffn}`;
}

function hidden(by: 'peer' | 'fleet'): Case {
  return {
    group,
    name: `by the ${by}, scid_alias: others reach it by its alias alone`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await world.peer(kind, LND_ALIASES);
      await world.connect(peer);
      const { ours } = await world.open(peer, by, { scidAlias: 'scid_alias' });
      ensure(ours.channelType === 'anchors+scid_alias', `the fleet says ${ours.channelType}`);
      await payBothWays(world, peer, 5_000_000n);
      const third = await world.peer('ldk');
      await world.connect(third);
      await world.open(third, 'peer');
      const { shortChannelId: realScid, holderAliasScid: alias } = await onlyChannel(world, peer);
      ensure(realScid !== 0n && alias !== realScid, 'the channel has two scids');
      const amountMsat = 4_000_000n;
      const { bolt11, paymentHash } = await peer.invoice({ amountMsat });
      const hints = hintsOf(bolt11);
      ensure(hints.includes(alias) && !hints.includes(realScid), `the hints are ${hints.map(scidText)}`);
      const failure = await payByScid(third, [world.nodeId, peer.nodeId], scidText(realScid), {
        amountMsat,
        paymentHash,
      });
      ensure(failure === 'unknown_next_peer', `by the real scid: ${failure}`);
      ensureSucceeded(await third.pay(bolt11), 'by the alias');
      await world.agree(peer);
    },
  };
}

/** Pays over two channels, the second by its scid; resolves with the failure. */
async function payByScid(
  payer: InteropPeer,
  [fleet, payee]: readonly [string, string],
  shortChannelId: string,
  payment: { readonly amountMsat: bigint; readonly paymentHash: string },
): Promise<string> {
  ensure(payer instanceof Ldk, 'LDK takes routes by hand');
  const before = payer.wallet.events.length;
  const { paymentId } = await payer.wallet.call('payRaw', {
    paymentHash: payment.paymentHash,
    hops: [
      { nodeId: fleet, feeMsat: 5_000n, cltvDelta: 80 },
      { nodeId: payee, shortChannelId, feeMsat: payment.amountMsat, cltvDelta: 80 },
    ],
  });
  return until('the payment has failed', async () => {
    for (const event of payer.wallet.events.slice(before)) {
      if (event.event === 'payment_sent' && event.paymentId === paymentId) return 'it succeeded';
      if (event.event === 'payment_path_failed' && event.paymentId === paymentId)
        return event.failure ?? 'no failure';
    }
    return undefined;
  });
}

// ------------------------------------------------------------------------------------------ zero-conf

async function trustPeer(world: World, peer: InteropPeer): Promise<void> {
  const nodeId = Buffer.from(peer.nodeId, 'hex');
  await world.node.peers.trustPeer({ nodeId, zeroConf: true }, world.node.auth());
  const { peers } = await world.node.peers.listPeers({}, world.node.auth());
  ensure(
    peers.some((one) => one.zeroConf && Buffer.from(one.nodeId).toString('hex') === peer.nodeId),
    'the fleet lists whom it trusts',
  );
}

async function aliasPeer(world: World, kind: PeerKind): Promise<InteropPeer> {
  const peer = await world.peer(kind, LND_ALIASES);
  await world.connect(peer);
  return peer;
}

function unconfirmed(by: 'peer' | 'fleet', scidAlias: 'scid_alias' | 'real_scid'): Case {
  return {
    group,
    name: `by the ${by}, zero-conf${scidAlias === 'scid_alias' ? ' with scid_alias' : ''}: paid through before it confirms, and after`,
    over: 'peers',
    run: async (world, kind) => {
      const peer = await aliasPeer(world, kind);
      if (by === 'fleet') await peer.answerOpens({ how: 'trust' });
      else await trustPeer(world, peer);
      await world.startOpening(peer, by, { confirmations: 'zero_conf', scidAlias });
      const { ours } = await world.usable(peer);
      ensure(ours.channelType.includes('zero_conf'), `the fleet says ${ours.channelType}`);
      ensure(ours.shortChannelId === 0n, 'nothing has confirmed');
      await payBothWays(world, peer, 5_000_000n);
      for (const manager of world.fleet.services.filter((name) => name.startsWith('channel-manager')))
        await world.fleet.kill9AndWait(manager);
      await world.usable(peer);
      await payBothWays(world, peer, 3_000_000n);
      await world.mine(6);
      const realScid = await until('the fleet knows the real scid', async () => {
        const { shortChannelId } = await onlyChannel(world, peer);
        return shortChannelId === 0n ? undefined : shortChannelId;
      });
      ensure(realScid >> 40n === BigInt((await world.chain.height()) - 5), `the scid ${scidText(realScid)}`);
      await world.usable(peer);
      await payBothWays(world, peer, 2_000_000n);
    },
  };
}

export const KIND_CASES: readonly Case[] = [
  promisedByFleet('fleet'),
  promisedByFleet('peer'),
  promisedByPeer('fleet'),
  promisedByPeer('peer'),
  afterDepth('peer'),
  afterDepth('fleet'),
  hidden('peer'),
  hidden('fleet'),
  unconfirmed('peer', 'real_scid'),
  unconfirmed('peer', 'scid_alias'),
  unconfirmed('fleet', 'real_scid'),
  unconfirmed('fleet', 'scid_alias'),
];
