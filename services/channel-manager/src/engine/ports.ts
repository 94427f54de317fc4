/** What the engine of a replica works with, wired once at the start. */
import type { Bus } from '@fulmen/bus';
import type { ChannelConfig, FeerateEstimates } from '@fulmen/channel';
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChainServiceService, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import type { RouterServiceService } from '@fulmen/proto/router/v1/router';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { Client } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import type { ManagerStore } from '@fulmen/store';
import type { TowerAcknowledgements } from '@fulmen/store/tower/tower-store';
import type { Lease } from '../lease/lease.ts';
import type { SignLane } from '../signing/sign-lane.ts';
import type { Committer } from './committer.ts';

/** So many towers must have a monitor update before it is complete. */
export interface RequiredTowers {
  readonly required: number;
  readonly acknowledgements: TowerAcknowledgements;
}

export interface EnginePorts {
  readonly store: ManagerStore;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly secp: Secp256k1;
  readonly signer: Client<SignerServiceService>;
  readonly signLane: SignLane;
  readonly chain: Client<ChainServiceService>;
  readonly wallet: Client<WalletServiceService>;
  readonly router: Client<RouterServiceService>;
  readonly committer: Committer;
  /** Absent: no tower has to acknowledge anything. */
  readonly towers?: RequiredTowers;
  readonly lease: Lease;
}

/** What every channel of the node shares: policy, and facts of the chain kept fresh by the engine. */
export interface NodeView {
  readonly nodeId: Uint8Array;
  readonly chainHash: Uint8Array;
  readonly channelConfig: ChannelConfig;
  /** Whether payments that come without an invoice are taken. */
  readonly keysend: 'accepted' | 'refused';
  /** Latest estimates; the engine renews them. Undefined: there were none yet, and no channel is opened. */
  feerates: FeerateEstimates | undefined;
  blockHeight: number;
  /** Why heights and confirmations cannot be relied on; undefined while they can. */
  readonly chainDoubt: () => string | undefined;
  /** How many blocks may have come, at most, since `blockHeight` was the best: none but while the chain is in doubt. */
  readonly blocksUnseen: () => number;
}
