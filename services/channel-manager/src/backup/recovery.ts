/**
 * Recovering channels from a static backup: each is registered with the signer
 * as restored (nothing but claims is ever signed), gets a row in its last phase
 * with a monitor and a watch, and its peer is dialled. The peer then closes it.
 * Idempotent: a channel that the node knows is left alone.
 */
import type { ChannelBackup, NodeBackup } from '@fulmen/backup';
import {
  type ChannelContext,
  type ChannelEffect,
  type EstablishedChannel,
  FEERATES_WITHOUT_ESTIMATES,
  persistDelta,
  restoreStatically,
  summary,
} from '@fulmen/channel';
import { InternalError, toHex } from '@fulmen/codec';
import { shardOfPeer } from '@fulmen/keys/shard';
import { encodeChannelMonitorUpdate, encodeMonitorParameters } from '@fulmen/monitor';
import type { NewChannelKeysResponse } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import { type ChannelCommit, type Fence, type LoadedChannel, StoreError } from '@fulmen/store';
import type { BackupStore } from '@fulmen/store/manager/backup/backup-store';
import { channelRow } from '../engine/channel-row.ts';
import { emptyForwarding, eventBody } from '../engine/forwarding.ts';
import { registrationOf } from '../engine/registration.ts';
import type { EnginePorts, NodeView } from '../engine/ports.ts';
import type { RestoredChannel } from '../engine/shard-loader.ts';

/** What became of one channel of a backup. */
export type RecoveryOutcome =
  | { readonly type: 'recovered' }
  /** The node has the channel, open or closed. */
  | { readonly type: 'known'; readonly phase: string }
  /** The replica at this address owns the channel's shard; undefined: none does now. */
  | { readonly type: 'elsewhere'; readonly address: string | undefined }
  | { readonly type: 'refused'; readonly reason: string };

export interface RecoveryHost {
  readonly ports: EnginePorts;
  readonly node: NodeView;
  readonly backups: BackupStore;
  readonly fenceOf: (shard: number) => Fence | undefined;
  readonly ownerAddress: (shard: number) => string | undefined;
  /** Takes the channel into service, as when its shard is loaded. */
  readonly adopt: (fence: Fence, channel: RestoredChannel) => void;
  /** Drops the shard and loads it anew. */
  readonly reload: (fence: Fence, reason: string) => void;
}

/** For people, and for the peer in its error. */
const REASON = 'the node was restored from a static backup: please close the channel';

/** Recovers the channels whose shards this replica owns. */
export async function recoverChannels(
  host: RecoveryHost,
  backup: NodeBackup,
): Promise<readonly { readonly channel: ChannelBackup; readonly outcome: RecoveryOutcome }[]> {
  const rows = await host.ports.store.listChannels({ closed: 'include' });
  const phases = new Map(rows.map(({ channelId, phase }) => [toHex(channelId), phase]));
  const results: { channel: ChannelBackup; outcome: RecoveryOutcome }[] = [];
  for (const channel of backup.channels) {
    const phase = phases.get(toHex(channel.channelId));
    const outcome: RecoveryOutcome =
      phase === undefined ? await recover(host, channel) : { type: 'known', phase };
    results.push({ channel, outcome });
  }
  return results;
}

async function recover(host: RecoveryHost, channel: ChannelBackup): Promise<RecoveryOutcome> {
  const { ports } = host;
  const shard = shardOfPeer(channel.counterpartyNodeId);
  const fence = host.fenceOf(shard);
  if (fence === undefined) return { type: 'elsewhere', address: host.ownerAddress(shard) };
  const keys = await ports.signer.newChannelKeys({ channelKeysId: channel.channelKeysId });
  const { state, effects } = restoreStatically({
    channelId: channel.channelId,
    parameters: parametersOf(channel, keys),
    fundingTxid: channel.fundingTxid,
    fundingOutputIndex: channel.fundingOutputIndex,
    fundingValueSat: channel.fundingValueSat,
    shutdownScript: channel.shutdownScript,
    reason: REASON,
  });
  const refusal = await register(host, state, fence);
  if (refusal !== undefined) return { type: 'refused', reason: refusal };
  const [address] = channel.addresses;
  if (address !== undefined)
    await ports.store.upsertPeerAddress(channel.counterpartyNodeId, address.host, address.port, 'wanted');
  // Before the watch: chain-monitor reads both at once.
  await host.backups.putFundingSearch(fence, channel.channelId, channel.searchFromHeight);
  const commit = commitOf(host, { state, effects, fence });
  const [verdict] = await ports.store.commitSteps([{ kind: 'channel', commit }]).catch((error: unknown) => {
    // It may have been stored: the shard's rows tell.
    if (error instanceof StoreError && error.code === 'unknown')
      host.reload(fence, 'the outcome of a recovery is unknown');
    throw error;
  });
  if (verdict?.type !== 'committed')
    throw new RpcError(
      'unavailable',
      `the channel was not stored (${verdict?.type ?? 'no verdict'}): try again`,
    );
  host.adopt(fence, {
    loaded: loadedOf(commit),
    state,
    signer: { holderCommitmentNumber: -1n, counterpartyRevocations: 0n },
    points: { first: 0n, points: keys.perCommitmentPoints },
    policy: undefined,
    contradiction: undefined,
  });
  ports.bus.publish('fulmen.monitor');
  ports.logger.warn(
    { channel: channel.channelId, peer: channel.counterpartyNodeId },
    'a channel was recovered from a backup: its peer is asked to close it',
  );
  return { type: 'recovered' };
}

function parametersOf(
  channel: ChannelBackup,
  keys: NewChannelKeysResponse,
): EstablishedChannel['parameters'] {
  const { fundingPubkey, revocationBasepoint, paymentBasepoint, delayedPaymentBasepoint, htlcBasepoint } =
    keys;
  return {
    channelKeysId: channel.channelKeysId,
    counterpartyNodeId: channel.counterpartyNodeId,
    funder: channel.funder,
    commitmentFormat: channel.commitmentFormat,
    channelType: channel.channelType,
    announce: channel.announce,
    holder: {
      fundingPubkey,
      revocationBasepoint,
      paymentBasepoint,
      delayedPaymentBasepoint,
      htlcBasepoint,
      ...channel.holder,
    },
    counterparty: channel.counterparty,
  };
}

/** Undefined when the signer took it; its reason when it never will. */
async function register(
  { ports }: RecoveryHost,
  state: EstablishedChannel,
  fence: Fence,
): Promise<string | undefined> {
  try {
    await ports.signer.registerChannel({ ...registrationOf(state, fence), restored: true });
    return undefined;
  } catch (error) {
    const isRefusal =
      error instanceof RpcError &&
      (error.code === 'failed_precondition' || error.code === 'invalid_argument');
    if (!isRefusal) throw error;
    return `the signer refuses: ${error.message}`;
  }
}

function commitOf(
  { ports, node }: RecoveryHost,
  given: {
    readonly state: EstablishedChannel;
    readonly effects: readonly ChannelEffect[];
    readonly fence: Fence;
  },
): ChannelCommit {
  const { state, effects, fence } = given;
  const { channelId } = state;
  const context: ChannelContext = {
    secp: ports.secp,
    config: node.channelConfig,
    feerates: node.feerates ?? FEERATES_WITHOUT_ESTIMATES,
    holderPoint: () => undefined,
  };
  const born = effects.find((effect) => effect.type === 'watch_channel');
  if (born === undefined) throw new InternalError('a restored channel has no monitor');
  return {
    fence,
    channelId,
    expectedVersion: 0n,
    delta: persistDelta(undefined, state),
    row: channelRow(state, summary(context, state), fence.shard),
    monitorBirth: encodeMonitorParameters(born.parameters),
    monitorUpdates: effects.flatMap((effect) =>
      effect.type === 'monitor_update'
        ? [
            {
              updateId: effect.updateId,
              payload: encodeChannelMonitorUpdate({
                channelId,
                updateId: effect.updateId,
                steps: effect.steps,
              }),
            },
          ]
        : [],
    ),
    forwarding: {
      ...emptyForwarding(),
      events: [
        {
          type: 'channel_recovered',
          timeUnixMs: ports.runtime.wallClockMs(),
          body: eventBody({
            channelId,
            counterpartyNodeId: state.parameters.counterpartyNodeId,
            reason: REASON,
          }),
        },
      ],
    },
    broadcasts: [],
    watches: effects.flatMap((effect) => (effect.type === 'watch_funding' ? [{ ...effect, channelId }] : [])),
  };
}

/** What a load would read back. */
function loadedOf(commit: ChannelCommit): LoadedChannel {
  const { delta, monitorUpdates } = commit;
  return {
    version: 1n,
    row: commit.row,
    persisted: {
      hot: delta.hot,
      cold: delta.cold ?? new Uint8Array(0),
      htlcs: [],
      removals: [],
      secretBuckets: [],
      holderSignatures: delta.holderSignatures,
    },
    nextMonitorUpdateId: (monitorUpdates.at(-1)?.updateId ?? 0n) + 1n,
    fundingStatus: undefined,
    outgoing: [],
    fulfilledLateMsat: 0n,
    intentsWritten: [],
    preimages: [],
  };
}
