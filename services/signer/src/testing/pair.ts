/** Signers of the two sides of the test channel, that sign for each other over streams. */
import type { Secp256k1 } from '@fulmen/crypto';
import { HonestChannel, SHARD, type Side, registrationOf, type TestParty, testParties } from './channel.ts';
import { BatchClient, type Harness, type HarnessOptions, startSigner } from './harness.ts';
import { fromSuccess, wireItem, wireRegistration } from './wire.ts';

export type SideOptions = Omit<HarnessOptions, 'secp' | 'party'>;

export const CALLER = { shard: SHARD, epoch: 1n };

/** The signers of one test. */
export class SignerPairs {
  readonly parties: Record<Side, TestParty>;
  readonly #secp: Secp256k1;
  readonly #running = new Set<Harness>();

  constructor(secp: Secp256k1) {
    this.#secp = secp;
    this.parties = testParties(secp);
  }

  async start(side: Side, options: SideOptions = {}): Promise<Harness> {
    const harness = await startSigner({ secp: this.#secp, party: this.parties[side], ...options });
    this.#running.add(harness);
    return harness;
  }

  /** One of them before the test is over. */
  async stop(harness: Harness): Promise<void> {
    this.#running.delete(harness);
    await harness.stop();
  }

  async stopAll(): Promise<void> {
    for (const harness of this.#running) await this.stop(harness);
  }

  /** One signer for each side, with the channel registered at both and not opened yet. */
  async two(options: { readonly alice?: SideOptions; readonly fundingTxid?: Uint8Array } = {}) {
    const harness = { alice: await this.start('alice', options.alice), bob: await this.start('bob') };
    return this.register(harness, options.fundingTxid);
  }

  /** The same with signers that run already. */
  async register(harness: Record<Side, Harness>, fundingTxid?: Uint8Array) {
    const { parties } = this;
    const streams = {
      alice: new BatchClient(harness.alice.client),
      bob: new BatchClient(harness.bob.client),
    };
    for (const side of ['alice', 'bob'] as const)
      await harness[side].client.registerChannel(
        wireRegistration(registrationOf(this.#secp, parties, side, 'anchors', fundingTxid), 1n),
      );
    const channel = new HonestChannel(this.#secp, parties, async (side, request) => {
      const outcome = await streams[side].one(wireItem(parties[side].channelKeysId, CALLER, request));
      if ('policy' in outcome) throw new RangeError(outcome.policy);
      return fromSuccess(outcome);
    });
    return { harness, streams, channel };
  }
}
