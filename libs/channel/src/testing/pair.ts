/** Two nodes joined by queues, with a channel between them. */
import { InternalError, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { fundingScriptPubKey } from '../commitment/scripts/funding.ts';
import type { NegotiatedFeatures } from '../context.ts';
import type { PeerMessage } from '../effect.ts';
import { canCommit } from '../commit.ts';
import type { CommitmentFormatName } from '../parameters.ts';
import { acceptChannel } from '../open/fundee.ts';
import { openChannel } from '../open/funder.ts';
import type { ChannelInput } from '../input.ts';
import { primaryFunding } from '../state.ts';
import { FEATURES, TestNode } from './node.ts';
import type { NodeOptions } from './node.ts';

export interface PairOptions {
  readonly format?: CommitmentFormatName;
  readonly fundingSat?: bigint;
  readonly pushMsat?: bigint;
  readonly feerateSatPerKw?: number;
  readonly announce?: boolean;
  readonly confirmations?: 'zero_conf' | 'confirmed';
  readonly scidAlias?: 'scid_alias' | 'real_scid';
  readonly features?: NegotiatedFeatures;
  readonly alice?: NodeOptions;
  readonly bob?: NodeOptions;
}

export type Side = 'alice' | 'bob';

/** P2WPKH of no key that matters. */
export function testScript(fill: number): Uint8Array {
  return Uint8Array.from([0, 20, ...new Uint8Array(20).fill(fill)]);
}

export const ONION = new Uint8Array(1366).fill(7);

export class Pair {
  readonly alice: TestNode;
  readonly bob: TestNode;
  readonly features: NegotiatedFeatures;
  /** A fault that an honest peer caused. */
  onFault: (side: Side, message: PeerMessage, text: string) => void = (side, message, text) => {
    throw new InternalError(`${side} refused ${message.type}: ${text}`);
  };

  constructor(secp: Secp256k1, options: PairOptions = {}) {
    this.alice = new TestNode('alice', secp, options.alice);
    this.bob = new TestNode('bob', secp, options.bob);
    this.features = options.features ?? FEATURES;
    this.#open(options);
  }

  node(side: Side): TestNode {
    return side === 'alice' ? this.alice : this.bob;
  }

  other(side: Side): Side {
    return side === 'alice' ? 'bob' : 'alice';
  }

  #open(options: PairOptions): void {
    const { alice, bob, features } = this;
    const nodeId = (node: TestNode) => node.secp.publicKeyOf(sha256(utf8Encode(`node ${node.name}`)));
    const confirmations = options.confirmations ?? 'confirmed';
    const opened = openChannel(alice.ctx, {
      temporaryChannelId: new Uint8Array(32).fill(9),
      counterpartyNodeId: nodeId(bob),
      keys: alice.signer.keys(),
      features,
      fundingSat: options.fundingSat ?? 1_000_000n,
      pushMsat: options.pushMsat ?? 400_000_000n,
      feerateSatPerKw: options.feerateSatPerKw ?? 1000,
      announce: options.announce ?? false,
      channelType: {
        commitmentFormat: options.format ?? 'anchors',
        scidAlias: options.scidAlias ?? 'real_scid',
        confirmations,
      },
      shutdownScript: testScript(1),
      aliasScid: 0x0100_0001n,
    });
    if (!opened.ok) throw new InternalError(`open: ${opened.error.message}`);
    alice.take(opened.value, 'durable');
    const open = alice.outbox.shift();
    if (open?.type !== 'open_channel') throw new InternalError('no open_channel');
    const accepted = acceptChannel(
      bob.ctx,
      {
        counterpartyNodeId: nodeId(alice),
        keys: bob.signer.keys(),
        features,
        shutdownScript: testScript(2),
        aliasScid: 0x0200_0002n,
        zeroConf: 'trusted',
      },
      open,
    );
    if (!accepted.ok) throw new InternalError(`accept: ${accepted.error.message}`);
    bob.take(accepted.value, 'durable');
    this.deliverAll();
    alice.must({
      type: 'funding_transaction_created',
      fundingTxid: sha256(utf8Encode('funding')),
      fundingOutputIndex: 1,
    });
    this.deliverAll();
    if (confirmations === 'confirmed') this.confirm(6);
  }

  /** Both sides see the funding output at this depth. */
  confirm(depth: number): void {
    for (const node of [this.alice, this.bob]) node.must(this.confirmation(node, depth));
    this.deliverAll();
  }

  confirmation(node: TestNode, depth: number): Extract<ChannelInput, { type: 'funding_confirmed' }> {
    const funding = primaryFunding(node.channel);
    return {
      type: 'funding_confirmed',
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
      valueSat: funding.fundingValueSat,
      scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      depth,
      blockHeight: 700_000,
      transactionIndex: 3,
    };
  }

  /** Hands one message to `side`; false if none is on its way. */
  deliver(side: Side): boolean {
    const message = this.node(this.other(side)).outbox.shift();
    if (message === undefined) return false;
    const node = this.node(side);
    const error = node.input({ type: 'message', message });
    if (error !== undefined && error.reaction !== 'ignore')
      this.onFault(side, message, `${error.code}: ${error.message}`);
    return true;
  }

  deliverAll(): void {
    for (let i = 0; i < 10_000; i += 1) {
      const delivered = [this.deliver('alice'), this.deliver('bob')];
      if (!delivered.includes(true)) return;
    }
    throw new InternalError('the two never fall silent');
  }

  disconnect(): void {
    for (const node of [this.alice, this.bob]) {
      node.outbox = [];
      node.must({ type: 'peer_disconnected' });
    }
  }

  connect(): void {
    for (const node of [this.alice, this.bob]) node.must({ type: 'peer_connected', features: this.features });
  }

  /** Delivers and commits until nothing moves. */
  settle(): void {
    for (let i = 0; i < 1000; i += 1) {
      this.deliverAll();
      let isMoving = false;
      for (const node of [this.alice, this.bob]) {
        if (node.state?.type === 'established' && canCommit(node.state)) {
          node.must({ type: 'commit' });
          isMoving = true;
        }
      }
      if (!isMoving) return;
    }
    throw new InternalError('the two never settle');
  }
}

/** An add_htlc command; the preimage is `preimageOf(seed)`. */
export function addCommand(
  seed: number,
  amountMsat: bigint,
  cltvExpiryHeight = 500,
): Extract<ChannelInput, { type: 'add_htlc' }> {
  return {
    type: 'add_htlc',
    amountMsat,
    paymentHash: sha256(preimageOf(seed)),
    cltvExpiryHeight,
    onionRoutingPacket: ONION,
  };
}

export function preimageOf(seed: number): Uint8Array {
  return sha256(utf8Encode(`preimage ${seed}`));
}
