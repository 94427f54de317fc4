/** One more channel of the hostile peer's, beside the one that the scene began with. */
import { NETWORKS } from '@fulmen/bitcoin';
import { openChannel } from '@fulmen/channel';
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { equalBytes, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import type { MessageOf } from '@fulmen/wire';
import { type Scene, SceneError } from './scene.ts';

export class SecondChannel {
  readonly temporaryChannelId: Uint8Array;
  readonly #scene: Scene;
  readonly #node: TestNode;

  constructor(scene: Scene, name: string) {
    this.#scene = scene;
    this.temporaryChannelId = sha256(utf8Encode(name));
    const config = { chainHash: NETWORKS.regtest.chainHash };
    this.#node = new TestNode(name, secp256k1, { config, restores: 'unchecked' });
  }

  /** Sends open_channel, changed. */
  open(
    change: (message: MessageOf<'open_channel'>) => Partial<MessageOf<'open_channel'>> = () => ({}),
  ): void {
    const node = this.#node;
    const opened = openChannel(node.ctx, {
      fundingSat: 1_000_000n,
      pushMsat: 300_000_000n,
      temporaryChannelId: this.temporaryChannelId,
      counterpartyNodeId: this.#scene.channel.parameters.counterpartyNodeId,
      keys: node.signer.keys(),
      features: FEATURES,
      feerateSatPerKw: 1_000,
      announce: false,
      channelType: { commitmentFormat: 'anchors', scidAlias: 'real_scid', confirmations: 'confirmed' },
      shutdownScript: Uint8Array.from([0, 20, ...new Uint8Array(20).fill(0x66)]),
      aliasScid: 77n,
    });
    if (!opened.ok) throw new SceneError(opened.error.message);
    node.take(opened.value, 'durable');
    for (const message of node.outbox.splice(0))
      this.#scene.send(message.type === 'open_channel' ? { ...message, ...change(message) } : message);
  }

  get acceptance(): MessageOf<'accept_channel'> | undefined {
    return this.#scene.heard
      .map(({ message }) => message)
      .filter((message) => message.type === 'accept_channel')
      .find(({ temporaryChannelId }) => equalBytes(temporaryChannelId, this.temporaryChannelId));
  }

  /** Opens, and sends a funding_created for this outpoint once the fleet has accepted. */
  async fund(fundingTxid: Uint8Array, fundingOutputIndex: number): Promise<void> {
    this.open();
    await this.#scene.until('accepted', () => this.acceptance !== undefined);
    if (this.acceptance === undefined) return;
    this.#node.must({ type: 'message', message: this.acceptance });
    this.#node.must({ type: 'funding_transaction_created', fundingTxid, fundingOutputIndex });
    this.#scene.send(...this.#node.outbox.splice(0));
  }
}
