/** The real signer service in memory: it learns a channel by serving what the channel asked of it while it lived. */
import type { Secp256k1 } from '@fulmen/crypto';
import type { KeyTree } from '@fulmen/keys';
import { InternalError } from '@fulmen/codec';
import { BatchClient, type Harness, type SignerClient, startSigner } from '@fulmen/signer/testing/harness';
import { wireItem, wireRegistration } from '@fulmen/signer/testing/wire';
import { FENCE } from './fleet-node.ts';
import type { PolicySigner } from './policy-signer.ts';

/** What chain-monitor's certificate allows. */
const CHAIN_MONITOR_CAPABILITIES = ['claim', 'wallet'];

export class FleetSigner {
  readonly #harness: Harness;
  readonly #batches: BatchClient;
  readonly #known = new Set<string>();

  private constructor(harness: Harness) {
    this.#harness = harness;
    this.#batches = new BatchClient(harness.client);
  }

  static async start(secp: Secp256k1, keys: KeyTree): Promise<FleetSigner> {
    const party = { keys, channelKeysId: new Uint8Array(32), walletScript: new Uint8Array(0) };
    const harness = await startSigner({ secp, party });
    await harness.client.fenceShard({ shard: FENCE.shard, epoch: FENCE.epoch });
    return new FleetSigner(harness);
  }

  /** A client as chain-monitor has it. */
  client(): SignerClient {
    return this.#harness.clientWith(...CHAIN_MONITOR_CAPABILITIES);
  }

  /** Registers the channel and serves every request that it made; once for each channel. */
  async learn(signer: PolicySigner): Promise<void> {
    const { registration, requests } = signer;
    const key = Buffer.from(registration.channelKeysId).toString('hex');
    if (this.#known.has(key)) return;
    this.#known.add(key);
    await this.#harness.client.registerChannel(wireRegistration(registration, FENCE.epoch));
    for (const request of requests) {
      const answer = await this.#batches.one(wireItem(registration.channelKeysId, FENCE, request));
      if ('policy' in answer) throw new InternalError(`the signer refused: ${answer.policy}`);
    }
  }

  async stop(): Promise<void> {
    this.#batches.end();
    await this.#harness.stop();
  }
}
