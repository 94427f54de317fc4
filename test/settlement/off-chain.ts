/**
 * A channel between the fleet and a counterparty, both real cores with real
 * keys, joined by hand: the test decides which messages arrive.
 */
import { acceptChannel, canCommit, channelIdOf, openChannel } from '@fulmen/channel';
import type { CommitmentFormatName, NegotiatedFeatures } from '@fulmen/channel';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { primaryFunding } from '@fulmen/channel/state';
import type { PeerMessage } from '@fulmen/channel';
import { type Tx, txid } from '@fulmen/bitcoin';
import { InternalError, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import type { KeyTree } from '@fulmen/keys';
import { FleetNode } from './fleet-node.ts';
import { PolicySigner } from './policy-signer.ts';

/** Where the counterparty wants its money. */
export const PEER_SCRIPT = Uint8Array.from([0, 20, ...new Uint8Array(20).fill(0xbb)]);

export interface ChannelPlan {
  /** Makes the channel's keys, and so its funding, unlike any other's. */
  readonly name: string;
  readonly format: CommitmentFormatName;
  readonly funder: 'fleet' | 'peer';
  readonly fundingSat: bigint;
  /** What the accepter begins with. */
  readonly pushSat: bigint;
  readonly feerateSatPerKw: number;
  /** Both sides', in blocks. */
  readonly toSelfDelayBlocks: number;
  /** Of the fleet, and of the counterparty. */
  readonly dustLimitSat: { readonly fleet: bigint; readonly peer: bigint };
  /** Sees the fleet's node before anything is opened. */
  readonly onFleet?: (fleet: FleetNode) => void;
  /** A transaction whose first output is the funding. */
  readonly fund: (script: Uint8Array, valueSat: bigint) => Tx;
}

export class OffChain {
  readonly fleet: FleetNode;
  readonly peer: TestNode;
  readonly #features: NegotiatedFeatures;
  /** Called after each step of the counterparty. */
  onPeerStep: () => void = () => undefined;
  fundingTx: Tx | undefined;

  constructor(secp: Secp256k1, tree: KeyTree, plan: ChannelPlan) {
    const keysId = Uint8Array.from(sha256(utf8Encode(`channel ${plan.name}`)));
    const config = { toSelfDelayBlocks: plan.toSelfDelayBlocks, maximumDustLimitSat: 10_000n };
    this.fleet = new FleetNode(secp, new PolicySigner(secp, tree, keysId), {
      config: { ...config, dustLimitSat: plan.dustLimitSat.fleet },
      restores: 'unchecked',
    });
    this.peer = new TestNode('peer', secp, {
      config: { ...config, dustLimitSat: plan.dustLimitSat.peer },
      restores: 'unchecked',
    });
    this.#features = { ...FEATURES, anchors: plan.format === 'anchors' };
    plan.onFleet?.(this.fleet);
    this.#open(secp, tree, plan);
  }

  get channelId(): Uint8Array {
    return this.fleet.channel.channelId;
  }

  #open(secp: Secp256k1, tree: KeyTree, plan: ChannelPlan): void {
    const features = this.#features;
    const peerId = secp.publicKeyOf(sha256(utf8Encode('node peer')));
    const [funder, fundee] = plan.funder === 'fleet' ? [this.fleet, this.peer] : [this.peer, this.fleet];
    const idOf = (node: TestNode): Uint8Array => (node === this.fleet ? tree.nodeId : peerId);
    const scriptOf = (node: TestNode): Uint8Array =>
      node === this.fleet ? this.fleet.signer.walletScript : PEER_SCRIPT;
    const opened = openChannel(funder.ctx, {
      temporaryChannelId: new Uint8Array(32).fill(9),
      counterpartyNodeId: idOf(fundee),
      keys: funder.signer.keys(),
      features,
      fundingSat: plan.fundingSat,
      pushMsat: plan.pushSat * 1000n,
      feerateSatPerKw: plan.feerateSatPerKw,
      announce: false,
      channelType: { commitmentFormat: plan.format, scidAlias: 'real_scid', confirmations: 'confirmed' },
      shutdownScript: scriptOf(funder),
      aliasScid: 0x0100_0001n,
    });
    if (!opened.ok) throw new InternalError(`open: ${opened.error.message}`);
    funder.take(opened.value, 'durable');
    const open = funder.outbox.shift();
    if (open?.type !== 'open_channel') throw new InternalError('no open_channel');
    const accepted = acceptChannel(
      fundee.ctx,
      {
        counterpartyNodeId: idOf(funder),
        keys: fundee.signer.keys(),
        features,
        shutdownScript: scriptOf(fundee),
        aliasScid: 0x0200_0002n,
        zeroConf: 'refused',
      },
      open,
    );
    if (!accepted.ok) throw new InternalError(`accept: ${accepted.error.message}`);
    fundee.take(accepted.value, 'durable');
    this.deliverAll();
    const ask = funder.effects.find((effect) => effect.type === 'fund_channel');
    if (ask === undefined) throw new InternalError('no funding was asked for');
    const tx = plan.fund(ask.scriptPubKey, ask.fundingValueSat);
    this.fundingTx = tx;
    funder.must({ type: 'funding_transaction_created', fundingTxid: txid(tx), fundingOutputIndex: 0 });
    this.deliverAll();
    for (const node of [this.fleet, this.peer]) {
      const funding = primaryFunding(node.channel);
      node.must({
        type: 'funding_confirmed',
        fundingTxid: funding.fundingTxid,
        fundingOutputIndex: 0,
        valueSat: funding.fundingValueSat,
        scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
        depth: 6,
        blockHeight: 102,
        transactionIndex: 1,
      });
    }
    this.deliverAll();
    if (this.fleet.channel.phase.type !== 'open') throw new InternalError('the channel did not open');
    if (Buffer.compare(this.channelId, channelIdOf(txid(tx), 0)) !== 0)
      throw new InternalError('another channel id');
  }

  /** Hands a message over. */
  receive(node: TestNode, message: PeerMessage): void {
    const error = node.input({ type: 'message', message });
    if (error !== undefined && error.reaction !== 'ignore')
      throw new InternalError(`${node.name} refused ${message.type}: ${error.code}: ${error.message}`);
    if (node === this.peer) this.onPeerStep();
  }

  #deliver(to: TestNode): boolean {
    const from = to === this.fleet ? this.peer : this.fleet;
    const message = from.outbox.shift();
    if (message === undefined) return false;
    this.receive(to, message);
    return true;
  }

  deliverAll(): void {
    while ([this.#deliver(this.fleet), this.#deliver(this.peer)].includes(true));
  }

  /** Delivers and commits until nothing moves. */
  settle(): void {
    for (;;) {
      this.deliverAll();
      let isMoving = false;
      for (const node of [this.fleet, this.peer]) {
        if (node.state?.type !== 'established' || !canCommit(node.state)) continue;
        node.must({ type: 'commit' });
        isMoving = true;
      }
      if (!isMoving) return;
    }
  }

  /** The fleet signs what is pending; the counterparty takes it and stays silent. */
  signWithoutAnswer(): void {
    this.fleet.must({ type: 'commit' });
    while (this.#deliver(this.peer));
    this.peer.outbox = [];
  }
}
