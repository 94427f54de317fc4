/** OpenChannel: at most one channel for each idempotency key, whatever is repeated or lost. */
import { concatBytes, equalBytes, toHex, fromHex, utf8Decode, utf8Encode, Writer } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { OpenChannelRequest, OpenChannelResponse } from '@fulmen/proto/manager/v1/manager';
import { RpcError } from '@fulmen/rpc';
import type { OpenChannelCommand, OpenedChannel } from '../engine/api.ts';
import { shardOfPeer } from '@fulmen/keys/shard';
import type { ManagerDeps } from './deps.ts';
import {
  invalid,
  requireAmount,
  requireIdempotencyKey,
  requireNodeId,
  requireRange,
  requireScript,
  requireSat,
} from './validate.ts';

const TICKET_LENGTH = 16;
/** BOLT 3: below, a commitment transaction would not be relayed; above, no block was ever so expensive. */
const MIN_FEERATE_SAT_PER_KW = 253;
const MAX_FEERATE_SAT_PER_KW = 1_000_000;

/** Openings of this replica that are under way, by idempotency key. */
export type OpeningsUnderWay = Map<
  string,
  { readonly digest: Uint8Array; readonly opening: Promise<OpenedChannel> }
>;

/** Opens a channel; answers when it is funded, before it is confirmed. */
export async function openChannel(
  deps: ManagerDeps,
  underWay: OpeningsUnderWay,
  request: OpenChannelRequest,
): Promise<OpenChannelResponse> {
  const { engine, node, secp } = deps;
  const nodeId = requireNodeId(secp, request.nodeId);
  if (equalBytes(nodeId, node.nodeId)) throw invalid('node_id is this node’s own; give another node’s');
  const fundingSat = requireSat('funding_sat', request.fundingSat);
  const { fundingFeerateSatPerKw } = request;
  const command: OpenChannelCommand = {
    nodeId,
    fundingSat,
    pushMsat: requireAmount('push_msat', request.pushMsat, 0n, fundingSat * 1_000n),
    announce: request.announce,
    fundingFeerateSatPerKw:
      fundingFeerateSatPerKw === undefined
        ? undefined
        : requireRange(
            'funding_feerate_sat_per_kw',
            fundingFeerateSatPerKw,
            MIN_FEERATE_SAT_PER_KW,
            MAX_FEERATE_SAT_PER_KW,
          ),
    shutdownScript:
      request.shutdownScript === undefined
        ? undefined
        : requireScript('shutdown_script', request.shutdownScript, 'the wallet'),
    commitmentFormat: requireFormat(request.commitmentFormat),
    scidAlias: request.scidAlias === true ? 'scid_alias' : 'real_scid',
    confirmations: request.zeroConf === true ? 'zero_conf' : 'confirmed',
  };
  if (command.announce && command.scidAlias === 'scid_alias')
    throw invalid('scid_alias hides where a channel is: leave announce or scid_alias out');
  const key = requireIdempotencyKey(request.idempotencyKey);
  // Before the key is used up: the caller repeats the request at the owner.
  engine.requireShard(shardOfPeer(nodeId));
  return key === '' ? engine.openChannel(command) : openOnce(deps, underWay, key, command);
}

function requireFormat(name: string | undefined): OpenChannelCommand['commitmentFormat'] {
  switch (name) {
    case undefined:
    case 'anchors':
    case 'static_remotekey':
      return name;
    default:
      throw invalid('commitment_format must be "anchors" or "static_remotekey"; leave it out for the best');
  }
}

/**
 * The first to store a ticket under the key opens the channel, and stores how
 * it went. Whoever comes later joins it while it is under way here, and reads
 * that afterwards. If there is nothing to read, the first one was cut off:
 * then nobody may try again under this key.
 */
async function openOnce(
  deps: ManagerDeps,
  underWay: OpeningsUnderWay,
  key: string,
  command: OpenChannelCommand,
): Promise<OpenedChannel> {
  const digest = commandDigest(command);
  const same = underWay.get(key);
  if (same !== undefined) {
    if (!equalBytes(same.digest, digest)) throw otherRequest();
    return same.opening;
  }
  const opening = openFirst(deps, key, command, digest);
  underWay.set(key, { digest, opening });
  try {
    return await opening;
  } finally {
    underWay.delete(key);
  }
}

async function openFirst(
  deps: ManagerDeps,
  key: string,
  command: OpenChannelCommand,
  digest: Uint8Array,
): Promise<OpenedChannel> {
  const { store, runtime } = deps;
  const ticket = runtime.randomBytes(TICKET_LENGTH);
  const first = await store.idempotent(`open_channel:${key}`, concatBytes(ticket, digest));
  if (!equalBytes(first.subarray(TICKET_LENGTH), digest)) throw otherRequest();
  if (!equalBytes(first.subarray(0, TICKET_LENGTH), ticket))
    return readOutcome(await store.idempotent(outcomeKey(key), UNKNOWN));
  return openAndRecord(deps, key, command);
}

function otherRequest(): RpcError {
  return invalid('this idempotency key was used for another channel; use a new key');
}

async function openAndRecord(
  { engine, store }: ManagerDeps,
  key: string,
  command: OpenChannelCommand,
): Promise<OpenedChannel> {
  let opened: OpenedChannel;
  try {
    opened = await engine.openChannel(command);
  } catch (error) {
    if (error instanceof RpcError)
      await store.idempotent(
        outcomeKey(key),
        utf8Encode(JSON.stringify({ code: error.code, message: error.message })),
      );
    throw error;
  }
  const { channelId, fundingTxid, fundingOutputIndex } = opened;
  await store.idempotent(
    outcomeKey(key),
    utf8Encode(
      JSON.stringify({ channelId: toHex(channelId), fundingTxid: toHex(fundingTxid), fundingOutputIndex }),
    ),
  );
  return opened;
}

const outcomeKey = (key: string): string => `open_channel_outcome:${key}`;

const UNKNOWN = new Uint8Array(0);

type Outcome =
  | { readonly channelId: string; readonly fundingTxid: string; readonly fundingOutputIndex: number }
  | { readonly code: RpcError['code']; readonly message: string };

function readOutcome(bytes: Uint8Array): OpenedChannel {
  const text = utf8Decode(bytes);
  if (bytes.length === 0 || !text.ok) {
    throw new RpcError(
      'failed_precondition',
      'a request with this idempotency key is under way or was cut off; list the channels, and use a new key only if the channel is not among them',
    );
  }
  // Written by openOnce alone.
  const outcome = JSON.parse(text.value) as Outcome;
  if ('code' in outcome) {
    // What could not be done then is over under this key: 'unavailable' would have the caller repeat it for ever.
    const isOver = outcome.code === 'unavailable' || outcome.code === 'deadline_exceeded';
    throw new RpcError(
      isOver ? 'failed_precondition' : outcome.code,
      `${outcome.message} (answer to the first request with this idempotency key${isOver ? '; use a new key to try again' : ''})`,
    );
  }
  return {
    channelId: fromHex(outcome.channelId),
    fundingTxid: fromHex(outcome.fundingTxid),
    fundingOutputIndex: outcome.fundingOutputIndex,
  };
}

function commandDigest(command: OpenChannelCommand): Uint8Array {
  const { nodeId, fundingSat, pushMsat, announce, fundingFeerateSatPerKw } = command;
  const writer = new Writer(64)
    .bytes(nodeId)
    .u64(fundingSat)
    .u64(pushMsat)
    .u8(announce ? 1 : 0)
    .u32(fundingFeerateSatPerKw ?? 0);
  // What was not asked for before these could be leaves the digest as it was.
  const options = [
    command.shutdownScript === undefined ? '' : `script ${toHex(command.shutdownScript)}`,
    command.commitmentFormat ?? '',
    command.scidAlias === 'scid_alias' ? 'scid_alias' : '',
    command.confirmations === 'zero_conf' ? 'zero_conf' : '',
  ];
  if (options.some((option) => option !== '')) writer.bytes(utf8Encode(options.join('\n')));
  return sha256(writer.finish());
}
