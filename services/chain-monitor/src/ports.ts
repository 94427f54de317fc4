/** What the service needs from outside. */
import type { Network } from '@fulmen/bitcoin';
import type { Bus } from '@fulmen/bus';
import type { ChainSource } from '@fulmen/chain';
import type { Secp256k1 } from '@fulmen/crypto';
import type { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import type { Client, RpcServer } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import type { ChainStore } from '@fulmen/store/chain/chain-store';
import type { AnchorReserveLimits } from './wallet/anchor-reserve.ts';
import type { NodeTowers } from './towers/serve.ts';

export type SignerClient = Pick<
  Client<SignerServiceService>,
  'getWalletDescriptors' | 'signPsbt' | 'signHolderCommitment' | 'signClaim' | 'getPerCommitmentPoints'
>;

export interface ChainMonitorPorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bus: Bus;
  readonly store: ChainStore;
  readonly source: ChainSource;
  readonly secp: Secp256k1;
  readonly server: RpcServer;
  readonly signer: SignerClient;
  /** Absent: nobody asks for towers. */
  readonly towers?: NodeTowers;
  /** Calls back when the node announces a block; absent: polls alone. */
  readonly blockHints?: (onHint: () => void) => Promise<{ close(): Promise<void> }>;
}

/** What the service is told. */
export interface ChainMonitorConfig {
  readonly network: Network;
  /** Names the lease's holder; a random part is added at each start. */
  readonly replicaId: string;
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly mempoolPollMs: number;
  /** Unknown transactions looked at in one look into the mempool, and the largest mempool that is looked into at all. */
  readonly mempoolScanLimit: number;
  readonly rebroadcastMs: number;
  /** How long a source may stand behind the stored chain before this counts as a fault. */
  readonly behindGraceMs: number;
  /** A best block older than this counts as a fault: the source may be cut off. Absent: any age. */
  readonly maximumBlockAgeMs: number | undefined;
  /** The wallet's first block when it is older than this installation; scanned once. */
  readonly rescanHeight: number | undefined;
  /** Feerate while the source has no estimate; absent: EstimateFee fails instead. */
  readonly fallbackFeerateSatPerKw: number | undefined;
  readonly maximumFeerateSatPerKw: number;
  readonly feeCacheMs: number;
  /** Blocks after which inputs are freed that were set apart for a channel nobody knows. */
  readonly reservationExpiryBlocks: number;
  /** What the wallet keeps back for the fees of channels with anchors. */
  readonly anchorReserve: AnchorReserveLimits;
  /** Highest fee of one transaction of the sweeper; the signer has a bound of its own. */
  readonly maximumSweepFeeSat: bigint;
}
