/** What the transactions of an opening shall pay. */
import { FEATURES, TestNode } from '@fulmen/channel/testing/node';
import { fakeSecp256k1 } from '@fulmen/crypto/fake';
import { FeeTarget } from '@fulmen/proto/chain/v1/chain';
import { silentLogger } from '@fulmen/service';
import { expect, test } from 'vitest';
import type { ActorHost } from './actor-host.ts';
import type { OpenChannelCommand } from './api.ts';
import type { ChannelActor } from './channel-actor.ts';
import { EngineCommands } from './commands.ts';
import type { Engine } from './engine.ts';
import { Openings } from './openings.ts';
import type { PolicyDefaults } from './policy.ts';
import type { Peer } from '../peers/peer.ts';

const command: OpenChannelCommand = {
  nodeId: fakeSecp256k1.publicKeyOf(new Uint8Array(32).fill(9)),
  fundingSat: 1_000_000n,
  pushMsat: 0n,
  announce: false,
  fundingFeerateSatPerKw: undefined,
  shutdownScript: undefined,
  commitmentFormat: undefined,
  scidAlias: 'real_scid',
  confirmations: 'confirmed',
};

test.each([[undefined], [5_000]])(
  'the operator’s feerate reaches the wallet: %s',
  async (fundingFeerateSatPerKw) => {
    const node = new TestNode('alice', fakeSecp256k1);
    const asked: unknown[] = [];
    const host = {
      node: { channelConfig: node.ctx.config, feerates: node.ctx.feerates },
      ports: {
        secp: fakeSecp256k1,
        logger: silentLogger,
        runtime: {
          randomBytes: (length: number) => new Uint8Array(length).fill(3),
          wallClockMs: () => 0,
          sleep: () => new Promise<void>(() => undefined),
          spawn: (_name: string, work: () => Promise<void>) => void work(),
        },
        signer: {
          newChannelKeys: async () => ({
            ...node.signer.keys(),
            perCommitmentPoints: [0n, 1n].map((number) => node.ctx.holderPoint(number)),
            shutdownScript: Uint8Array.from([0, 20, ...new Uint8Array(20)]),
          }),
        },
        wallet: {
          fundChannel: ({ feerateSatPerKw }: { readonly feerateSatPerKw?: number }) => {
            asked.push(feerateSatPerKw);
            return new Promise(() => undefined);
          },
        },
      },
    } as unknown as ActorHost;
    const openings = new Openings(
      host,
      { maxPendingPerPeer: 4, maxPendingTotal: 4 },
      { initial: () => ({}) } as unknown as PolicyDefaults,
      () => ({ ofPeer: () => 0, total: 0 }),
    );
    const peer = {
      nodeId: command.nodeId,
      fence: { shard: 1, epoch: 1n },
      connection: { generation: 1n, features: FEATURES },
      openings: new Map<string, ChannelActor>(),
      channels: new Map(),
      send: () => true,
    } as unknown as Peer;
    void openings.open(peer, { ...command, fundingFeerateSatPerKw }, 1_000).catch(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    const [actor] = peer.openings.values();
    if (actor === undefined) throw new TypeError('no opening');
    openings.fund(actor, 1_000_000n, new Uint8Array(34));
    expect(asked).toEqual([fundingFeerateSatPerKw]);
  },
);

test.each([
  [undefined, FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE],
  ['anchors', FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE],
  ['static_remotekey', FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE],
] as const)('a commitment pays what its format needs: %s', async (commitmentFormat, target) => {
  const asked: FeeTarget[] = [];
  const engine = {
    requirePeer: () => ({ connection: { features: FEATURES } }),
    ports: {
      chain: {
        estimateFee: async (request: { readonly target: FeeTarget }) => {
          asked.push(request.target);
          return { feerateSatPerKw: 1_000 };
        },
      },
    },
    openings: { open: async () => ({}) },
  } as unknown as Engine;
  await new EngineCommands(engine).openChannel({ ...command, commitmentFormat });
  expect(asked).toEqual([target]);
});
