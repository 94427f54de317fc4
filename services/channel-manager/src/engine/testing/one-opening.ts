/** The openings of a replica whose signer and wallet are at hand. */
import { TestNode } from '@fulmen/channel/testing/node';
import { testScript } from '@fulmen/channel/testing/pair';
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { RpcError } from '@fulmen/rpc';
import { silentLogger } from '@fulmen/service';
import type { ZeroConfTrust } from '@fulmen/store';
import type { ActorHost } from '../actor-host.ts';
import type { ChannelActor } from '../channel-actor.ts';
import { Openings } from '../openings.ts';
import { PolicyDefaults } from '../policy.ts';

export const FUNDED = { transaction: new Uint8Array(100), txid: sha256(new Uint8Array(1)), outputIndex: 0 };

/** The openings of a replica whose wallet answers when it is told to. */
export class OneOpening {
  readonly node = new TestNode('alice', fakeSecp256k1);
  readonly counterparty = new TestNode('bob', fakeSecp256k1);
  readonly answer = Promise.withResolvers<typeof FUNDED>();
  readonly asked = Promise.withResolvers<void>();
  /** What the operator said of the peer. */
  zeroConfTrust: ZeroConfTrust = 'refused';
  /** Channel keys ids, hex. */
  readonly released: string[] = [];
  readonly policies = new PolicyDefaults({
    feeBaseMsat: 0,
    feeProportionalMillionths: 0,
    cltvExpiryDelta: 40,
  });
  readonly openings = new Openings(
    {
      node: {
        channelConfig: this.node.ctx.config,
        feerates: this.node.ctx.feerates,
        chainDoubt: () => undefined,
        blocksUnseen: () => 0,
      },
      ports: {
        secp: fakeSecp256k1,
        logger: silentLogger,
        runtime: {
          randomBytes: (length: number) => new Uint8Array(length).fill(3),
          wallClockMs: () => 0,
          sleep: (_ms: number, signal: AbortSignal) =>
            new Promise<void>((_resolve, reject) =>
              signal.addEventListener('abort', () => reject(new RpcError('cancelled', 'stopped'))),
            ),
          spawn: (_name: string, work: () => Promise<void>) => void work(),
        },
        signer: {
          newChannelKeys: async () => ({
            ...this.node.signer.keys(),
            perCommitmentPoints: [0n, 1n].map((number) => this.node.ctx.holderPoint(number)),
            shutdownScript: testScript(1),
          }),
        },
        store: { zeroConfTrust: async () => this.zeroConfTrust },
        wallet: {
          getAnchorReserve: async () => ({ missingSat: 0n }),
          fundChannel: () => {
            this.asked.resolve();
            return this.answer.promise;
          },
          releaseFunding: async ({ channelKeysId }: { readonly channelKeysId: Uint8Array }) => {
            this.released.push(toHex(channelKeysId));
            return {};
          },
        },
      },
      consumed: () => undefined,
      deliver: () => undefined,
      letGo: () => undefined,
      send: () => undefined,
      fundChannel: (actor: ChannelActor, valueSat: bigint, script: Uint8Array) =>
        this.openings.fund(actor, valueSat, script),
      abandoned: (actor: ChannelActor, reason: string) => {
        this.openings.abandoned(actor, reason);
        actor.stop();
      },
    } as unknown as ActorHost,
    { maxPendingPerPeer: 4, maxPendingTotal: 4 },
    this.policies,
    () => ({ ofPeer: () => 0, total: 0 }),
  );
}
