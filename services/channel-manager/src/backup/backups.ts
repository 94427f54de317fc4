/** Everything of a replica that has to do with backups: its own, the peers', and the way back. */
import { type ChannelBackup, describeOpenFault, merged, type NodeBackup, openBackup } from '@fulmen/backup';
import type { NetworkName } from '@fulmen/bitcoin';
import { compareBytes, equalBytes, toHex } from '@fulmen/codec';
import { RpcError } from '@fulmen/rpc';
import type { ChannelRow } from '@fulmen/store';
import type { BackupStore } from '@fulmen/store/manager/backup/backup-store';
import type { MessageOf } from '@fulmen/wire';
import type { Peer } from '../peers/peer.ts';
import type { BackupFile } from './file.ts';
import { BACKUP_SHARD, BackupKeeper } from './keeper.ts';
import { PeerStorage } from './peer-storage.ts';
import { recoverChannels, type RecoveryHost, type RecoveryOutcome } from './recovery.ts';

export interface BackupsHost extends Omit<RecoveryHost, 'backups'> {
  readonly peers: () => readonly Peer[];
}

export interface BackupsOptions {
  readonly store: BackupStore;
  readonly network: NetworkName;
  readonly file: BackupFile | undefined;
}

/** A backup beside the node's rows. */
export interface Verification {
  readonly backup: NodeBackup;
  readonly channels: readonly { readonly channel: ChannelBackup; readonly phase: string | undefined }[];
  readonly missing: readonly Uint8Array[];
  readonly verdict: 'current' | 'outdated' | 'recoverable';
}

export interface Recovery {
  readonly channels: readonly { readonly channel: ChannelBackup; readonly outcome: RecoveryOutcome }[];
  readonly askNext: readonly string[];
  readonly backups: number;
  /** Whether the backup's number is known to be the node's: by this call, or before. */
  readonly adoption: 'taken' | 'newer' | 'elsewhere';
}

/** Backups of peers that one recovery reads: as many as a node may have peers that keep one. */
const MAX_RETURNED = 1_000;

export class Backups {
  readonly keeper: BackupKeeper;
  readonly storage: PeerStorage;
  readonly #host: BackupsHost;
  readonly #options: BackupsOptions;

  constructor(host: BackupsHost, options: BackupsOptions) {
    const { ports, node } = host;
    const { store, file } = options;
    this.#host = host;
    this.#options = options;
    const { signer, bus, runtime, logger, metrics } = ports;
    this.keeper = new BackupKeeper(
      {
        store,
        manager: ports.store,
        signer,
        bus,
        runtime,
        logger,
        metrics,
        ...(file === undefined ? {} : { file }),
      },
      {
        nodeId: node.nodeId,
        network: options.network,
        blockHeight: () => node.blockHeight,
        fenceOf: host.fenceOf,
      },
    );
    this.storage = new PeerStorage({ store, runtime, logger, metrics }, this.keeper, () => node.blockHeight);
  }

  /** Row, file and peers are brought up to date. */
  async run(): Promise<void> {
    await this.keeper.run();
    await this.storage.run(this.#host.peers());
  }

  storageReceived(peer: Peer, message: MessageOf<'peer_storage' | 'peer_storage_retrieval'>): void {
    if (message.type === 'peer_storage') this.storage.received(peer, message.blob);
    else
      this.storage.returned(peer, message.blob).catch((error: unknown) => {
        this.#host.ports.logger.warn(
          { err: error, peer: peer.key },
          'a returned backup could not be looked at',
        );
      });
  }

  /** @throws RpcError invalid_argument, with a sentence, when it cannot be opened or is another node's */
  async open(sealed: Uint8Array): Promise<NodeBackup> {
    const opened = openBackup(await this.keeper.secret(), sealed);
    if (!opened.ok) throw new RpcError('invalid_argument', describeOpenFault(opened.error));
    const { nodeId, network } = opened.value;
    if (!equalBytes(nodeId, this.#host.node.nodeId))
      throw new RpcError('invalid_argument', 'this backup is of another node');
    if (network !== this.#options.network)
      throw new RpcError(
        'invalid_argument',
        `this backup is of ${network}, the node of ${this.#options.network}`,
      );
    return opened.value;
  }

  async verify(sealed: Uint8Array): Promise<Verification> {
    const backup = await this.open(sealed);
    const rows = await this.#host.ports.store.listChannels({ closed: 'include' });
    const phases = new Map(rows.map(({ channelId, phase }) => [toHex(channelId), phase]));
    const has = new Set(backup.channels.map(({ channelId }) => toHex(channelId)));
    const isMissing = ({ channelId, phase }: ChannelRow): boolean =>
      phase !== 'closed' && !has.has(toHex(channelId));
    const missing = rows.filter(isMissing).map(({ channelId }) => channelId);
    const channels = backup.channels.map((channel) => ({
      channel,
      phase: phases.get(toHex(channel.channelId)),
    }));
    const isRecoverable = channels.some(({ phase }) => phase === undefined);
    return {
      backup,
      channels,
      missing: missing.toSorted(compareBytes),
      verdict: isRecoverable ? 'recoverable' : missing.length > 0 ? 'outdated' : 'current',
    };
  }

  /** Recovers from this backup; from what the peers gave back without one. */
  async recover(sealed: Uint8Array | undefined): Promise<Recovery> {
    const backups = sealed === undefined ? await this.#returned() : [await this.open(sealed)];
    const backup = merged(backups);
    if (backup === undefined)
      throw new RpcError('not_found', 'no peer has given a backup back: connect the peers, or give a file');
    const kept = await this.keeper.take(backup);
    const channels = await recoverChannels({ ...this.#host, backups: this.#options.store }, backup);
    this.keeper.due();
    this.#host.ports.bus.publish('fulmen.backup');
    const addresses = channels.flatMap(({ outcome }) =>
      outcome.type === 'elsewhere' && outcome.address !== undefined ? [outcome.address] : [],
    );
    const keeperAddress = kept === 'elsewhere' ? this.#host.ownerAddress(BACKUP_SHARD) : undefined;
    const askNext = [...new Set([...addresses, ...(keeperAddress === undefined ? [] : [keeperAddress])])];
    this.#host.ports.logger.info(
      { sequence: backup.sequence, numbers: kept, askNext },
      'a recovery was asked for',
    );
    return { channels, askNext, backups: backups.length, adoption: kept };
  }

  async #returned(): Promise<readonly NodeBackup[]> {
    const secret = await this.keeper.secret();
    const stored = await this.#options.store.returnedBackups(MAX_RETURNED);
    return stored.flatMap(({ sealed }) => {
      const opened = openBackup(secret, sealed);
      return opened.ok ? [opened.value] : [];
    });
  }

  close(): Promise<void> {
    return this.#options.store.close();
  }
}
