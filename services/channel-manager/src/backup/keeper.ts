/**
 * Keeps the node's static backup up to date: the owner of one fixed shard
 * writes a new one after each open and close, as a row; every replica puts the
 * newest into its file and at its peers. A file is never replaced by less:
 * a database that was lost and begins anew must not take the way back with it.
 */
import {
  describeOpenFault,
  describeReplacementFault,
  fitted,
  isSameContent,
  MAX_BACKUP_BYTES,
  type NodeBackup,
  openBackup,
  replacementFault,
  SALT_LENGTH,
  sealBackup,
} from '@fulmen/backup';
import type { NetworkName } from '@fulmen/bitcoin';
import type { Bus } from '@fulmen/bus';
import { equalBytes, toHex } from '@fulmen/codec';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { Client } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import type { Fence, ManagerStore } from '@fulmen/store';
import type { BackupStore } from '@fulmen/store/manager/backup/backup-store';
import { draftBackup } from './content.ts';
import type { BackupFile } from './file.ts';

/** Whoever owns this shard writes the backups. */
export const BACKUP_SHARD = 0;
/** How often the channels are read without a hint, and a refusing file is looked at again. */
const FULL_LOOK_MS = 60_000;

export interface BackupPorts {
  readonly store: BackupStore;
  readonly manager: Pick<ManagerStore, 'listPeers'>;
  readonly signer: Pick<Client<SignerServiceService>, 'getDerivedSecret'>;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Absent: this replica writes no file. */
  readonly file?: BackupFile;
}

export interface BackupView {
  readonly nodeId: Uint8Array;
  readonly network: NetworkName;
  readonly blockHeight: () => number;
  readonly fenceOf: (shard: number) => Fence | undefined;
}

/** The newest backup, sealed and open. */
export interface CurrentBackup {
  readonly backup: NodeBackup;
  readonly sealed: Uint8Array;
}

export type FileState =
  | { readonly type: 'none' }
  | { readonly type: 'written'; readonly path: string; readonly sequence: bigint }
  | { readonly type: 'refused'; readonly path: string; readonly reason: string };

export class BackupKeeper {
  readonly #ports: BackupPorts;
  readonly #view: BackupView;
  readonly #gauges: ReturnType<typeof gaugesOf>;
  #secret: Promise<Uint8Array> | undefined;
  #current: CurrentBackup | undefined;
  #fileState: FileState = { type: 'none' };
  #lastLookMs = Number.NEGATIVE_INFINITY;
  #lastFileMs = Number.NEGATIVE_INFINITY;

  constructor(ports: BackupPorts, view: BackupView) {
    this.#ports = ports;
    this.#view = view;
    this.#gauges = gaugesOf(ports.metrics);
  }

  /** As of this replica's last look. */
  get current(): CurrentBackup | undefined {
    return this.#current;
  }

  get fileState(): FileState {
    return this.#fileState;
  }

  /** A channel came or went: the next run reads them all. */
  due(): void {
    this.#lastLookMs = Number.NEGATIVE_INFINITY;
  }

  /** The key of the node's backups, from the seed. */
  secret(): Promise<Uint8Array> {
    this.#secret ??= this.#ports.signer
      .getDerivedSecret({ purpose: 'peer-storage' })
      .then(({ secret }) => Uint8Array.from(secret))
      .catch((error: unknown) => {
        this.#secret = undefined;
        throw error;
      });
    return this.#secret;
  }

  /** Brings row and file up to date. */
  async run(): Promise<void> {
    const fence = this.#view.fenceOf(BACKUP_SHARD);
    const nowMs = this.#ports.runtime.monotonicMs();
    if (fence !== undefined && nowMs - this.#lastLookMs >= FULL_LOOK_MS) {
      this.#lastLookMs = nowMs;
      try {
        await this.#write(fence);
      } catch (error) {
        this.due();
        throw error;
      }
    }
    await this.refresh();
    await this.#writeFile(nowMs);
  }

  /** The newest row, whoever wrote it. */
  async refresh(): Promise<CurrentBackup | undefined> {
    const { store } = this.#ports;
    const sequence = await store.latestSequence();
    if (sequence === 0n || sequence === this.#current?.backup.sequence) return this.#current;
    const stored = await store.latestBackup();
    if (stored === undefined) return this.#current;
    const opened = openBackup(await this.secret(), stored.sealed);
    if (!opened.ok) {
      this.#ports.logger.error(
        { reason: describeOpenFault(opened.error) },
        'ALARM: the stored backup cannot be opened: the database is of another seed, or damaged',
      );
      return this.#current;
    }
    this.#current = { backup: opened.value, sealed: stored.sealed };
    this.#gauges.sequence.set(Number(opened.value.sequence));
    this.#gauges.channels.set(opened.value.channels.length);
    return this.#current;
  }

  /**
   * Takes a backup that was brought back as the node's own, so that the numbers go on above it and none of its channels
   * is forgotten while they are recovered.
   */
  async take(backup: NodeBackup): Promise<'taken' | 'newer' | 'elsewhere'> {
    const { store, runtime } = this.#ports;
    for (;;) {
      const sequence = await store.latestSequence();
      if (sequence >= backup.sequence) return 'newer';
      const fence = this.#view.fenceOf(BACKUP_SHARD);
      if (fence === undefined) return 'elsewhere';
      const sealed = sealBackup(await this.secret(), runtime.randomBytes(SALT_LENGTH), {
        ...backup,
        coverage: 'full',
      });
      const outcome = await store.putBackup(fence, sequence, { sequence: backup.sequence, sealed });
      if (outcome === 'ok') return 'taken';
      if (outcome === 'fence_lost') return 'elsewhere';
    }
  }

  async #write(fence: Fence): Promise<void> {
    const { store, manager, runtime, logger, bus } = this.#ports;
    // The row is read first: what commits afterwards is in the channels, or makes the next backup.
    const before = await store.latestBackup();
    const secret = await this.secret();
    const opened = before === undefined ? undefined : openBackup(secret, before.sealed);
    if (opened !== undefined && !opened.ok) {
      // Nothing may follow what cannot be read: its channels would be forgotten.
      await this.refresh();
      return;
    }
    const previous = opened?.value;
    const channels = await store.backupChannels();
    const peers = await manager.listPeers();
    const closed = await store.closedChannels(previous?.channels.map(({ channelId }) => channelId) ?? []);
    const closedIds = new Set(closed.map(toHex));
    const { backup, unknown, unreadable } = draftBackup({
      nodeId: this.#view.nodeId,
      network: this.#view.network,
      blockHeight: this.#view.blockHeight(),
      nowUnixSeconds: Math.floor(runtime.wallClockMs() / 1000),
      channels,
      peers,
      previous,
      isClosed: (channelId) => closedIds.has(toHex(channelId)),
    });
    if (unknown.length !== this.#gauges.lastUnknown)
      logger[unknown.length > 0 ? 'error' : 'info'](
        { channels: unknown },
        unknown.length > 0
          ? 'ALARM: the backup has channels that the database does not know: recover them from it'
          : 'every channel of the backup is known',
      );
    this.#gauges.setUnknown(unknown.length);
    if (unreadable.length > 0)
      logger.error(
        { channels: unreadable },
        'ALARM: channels whose rows cannot be read are not backed up anew',
      );
    if (previous === undefined ? backup.channels.length === 0 : isSameContent(previous, backup)) return;
    const whole = fitted(backup, this.#view.nodeId, MAX_BACKUP_BYTES);
    if (whole.coverage === 'part')
      logger.error(
        { left: backup.channels.length - whole.channels.length },
        'ALARM: the node has more channels than a backup holds: the smallest are left out',
      );
    const sealed = sealBackup(secret, runtime.randomBytes(SALT_LENGTH), whole);
    const outcome = await store.putBackup(fence, previous?.sequence ?? 0n, {
      sequence: backup.sequence,
      sealed,
    });
    if (outcome === 'conflict') this.due();
    if (outcome !== 'ok') return;
    logger.info({ sequence: backup.sequence, channels: backup.channels.length }, 'channel backup written');
    bus.publish('fulmen.backup');
  }

  async #writeFile(nowMs: number): Promise<void> {
    const { file, store, logger } = this.#ports;
    const current = this.#current;
    if (file === undefined || current === undefined) return;
    const { sequence } = current.backup;
    if (this.#fileState.type === 'written' && this.#fileState.sequence === sequence) return;
    if (this.#fileState.type === 'refused' && nowMs - this.#lastFileMs < FULL_LOOK_MS) return;
    this.#lastFileMs = nowMs;
    const existing = await file.read();
    if (existing === undefined || !equalBytes(existing, current.sealed)) {
      const reason =
        existing === undefined ? undefined : await this.#refusal(existing, current.backup, store);
      if (reason !== undefined) {
        this.#fileState = { type: 'refused', path: file.path, reason };
        this.#gauges.refused.set(1);
        logger.error(
          { file: file.path, sequence, reason },
          'ALARM: the backup file is not replaced: recover from it, or move it away',
        );
        return;
      }
      await file.replace(current.sealed);
    }
    this.#fileState = { type: 'written', path: file.path, sequence };
    this.#gauges.refused.set(0);
  }

  /** Why the file must stay as it is. */
  async #refusal(existing: Uint8Array, next: NodeBackup, store: BackupStore): Promise<string | undefined> {
    const opened = openBackup(await this.secret(), existing);
    if (!opened.ok) return describeOpenFault(opened.error);
    const closed = await store.closedChannels(opened.value.channels.map(({ channelId }) => channelId));
    const ids = new Set(closed.map(toHex));
    const fault = replacementFault(opened.value, next, (channelId) => ids.has(toHex(channelId)));
    return fault === undefined ? undefined : describeReplacementFault(fault);
  }
}

function gaugesOf(metrics: Metrics) {
  const unknown = metrics.gauge(
    'manager_backup_unknown_channels',
    'Channels of the backup that the database does not know: recover them',
  );
  return {
    sequence: metrics.gauge('manager_backup_sequence', 'Number of the newest static channel backup'),
    channels: metrics.gauge('manager_backup_channels', 'Channels in the newest static channel backup'),
    refused: metrics.gauge(
      'manager_backup_file_refused',
      '1 while the backup file holds more than this node knows, and is not replaced',
    ),
    lastUnknown: 0,
    setUnknown(count: number): void {
      this.lastUnknown = count;
      unknown.set(count);
    },
  };
}
