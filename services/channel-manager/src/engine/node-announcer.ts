/**
 * The node's own node_announcement (BOLT 7): name, colour, addresses and
 * features. The router keeps it; this only looks whether what is published
 * still says what is configured, so that every replica may run it.
 */
import { utf8Encode } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import {
  encodeAddresses,
  encodeMessage,
  formatAddress,
  gossipSignedBytes,
  HOLDER_FEATURES,
  make,
  type NodeAddress,
  sanitizeForLog,
} from '@fulmen/wire';
import type { GetGraphNodeResponse } from '@fulmen/proto/router/v1/router';
import type { EnginePorts, NodeView } from './ports.ts';

/** What an operator wants others to know. */
export interface NodeIdentity {
  /** UTF-8, at most 32 bytes. */
  readonly alias: string;
  /** Red, green, blue. */
  readonly rgbColor: Uint8Array;
  readonly addresses: readonly NodeAddress[];
}

const ALIAS_LENGTH = 32;
/** As often it is sent again unchanged; others forget a node that is silent for two weeks. */
const REFRESH_SECONDS = 7 * 86_400;
const EMPTY_SIGNATURE = new Uint8Array(64);

type Ports = Pick<EnginePorts, 'router' | 'signer' | 'runtime' | 'logger'>;

export class NodeAnnouncer {
  readonly #ports: Ports;
  readonly #nodeId: Uint8Array;
  readonly #identity: NodeIdentity;

  constructor(ports: Ports, node: Pick<NodeView, 'nodeId'>, identity: NodeIdentity) {
    this.#ports = ports;
    this.#nodeId = node.nodeId;
    this.#identity = identity;
  }

  /** Publishes when there is a public channel and what is known of the node is old or other. */
  async run(): Promise<void> {
    const { router, signer, runtime, logger } = this.#ports;
    const known = await router.getNode({ nodeId: this.#nodeId });
    // BOLT 7: a receiver "SHOULD ignore the message" when `node_id` "is NOT previously known from a
    // channel_announcement".
    if (!known.found) return;
    const now = Math.floor(runtime.wallClockMs() / 1_000);
    if (this.#isSaid(known) && now - known.timestamp < REFRESH_SECONDS) return;
    // BOLT 7: "MUST set `timestamp` to be greater than that of any previous `node_announcement` it has previously
    // created."
    const unsigned = make('node_announcement', {
      signature: EMPTY_SIGNATURE,
      features: HOLDER_FEATURES.encode(),
      timestamp: Math.max(now, known.timestamp + 1),
      nodeId: this.#nodeId,
      rgbColor: this.#identity.rgbColor,
      alias: padded(this.#identity.alias),
      addresses: encodeAddresses(this.#identity.addresses),
      excessData: new Uint8Array(0),
    });
    const { nodeSignature } = await signer.signGossip({
      message: { $case: 'nodeAnnouncement', value: gossipSignedBytes(encodeMessage(unsigned)) },
      channelKeysId: new Uint8Array(0),
    });
    try {
      await router.publishOwn({ messages: [encodeMessage({ ...unsigned, signature: nodeSignature })] });
    } catch (error) {
      // Another replica may have been quicker, or the last public channel is gone meanwhile: looked at again next time.
      if (!(error instanceof RpcError) || error.code !== 'failed_precondition') throw error;
      logger.info({ reason: error.message }, 'the node_announcement was not taken');
    }
  }

  #isSaid(known: GetGraphNodeResponse): boolean {
    const { alias, rgbColor, addresses } = this.#identity;
    const same = (a: readonly string[], b: readonly string[]): boolean =>
      JSON.stringify([...a].sort()) === JSON.stringify([...b].sort());
    return (
      known.timestamp > 0 &&
      known.alias === sanitizeForLog(alias, ALIAS_LENGTH) &&
      Buffer.compare(known.rgbColor, rgbColor) === 0 &&
      Buffer.compare(known.features, HOLDER_FEATURES.encode()) === 0 &&
      same(known.addresses, addresses.map(formatAddress))
    );
  }
}

/** BOLT 7: "MUST set `alias` to a valid UTF-8 string, with any `alias` trailing-bytes equal to 0." */
function padded(alias: string): Uint8Array {
  const bytes = new Uint8Array(ALIAS_LENGTH);
  bytes.set(utf8Encode(alias).subarray(0, ALIAS_LENGTH));
  return bytes;
}
