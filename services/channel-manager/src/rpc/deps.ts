/** What the handlers of ManagerService work with. */
import type { Secp256k1 } from '@fulmen/crypto';
import type { ManagerStore } from '@fulmen/store';
import type { Runtime } from '@fulmen/service';
import type { Backups } from '../backup/backups.ts';
import type { EngineApi } from '../engine/api.ts';
import type { NodeView } from '../engine/ports.ts';
import type { PaymentHub } from '../payments/payment-hub.ts';

export interface ManagerDeps {
  readonly engine: EngineApi;
  readonly payments: PaymentHub;
  readonly backups: Pick<Backups, 'keeper' | 'verify' | 'recover'>;
  readonly store: ManagerStore;
  readonly node: NodeView;
  readonly secp: Secp256k1;
  readonly runtime: Runtime;
  /** "mainnet", "testnet", "signet" or "regtest". */
  readonly network: string;
}
