/** What every method of the public API is given. */
import type { Bus } from '@fulmen/bus';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  ChainServiceService,
  SettlementServiceService,
  WalletServiceService,
} from '@fulmen/proto/chain/v1/chain';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import { RouterServiceService } from '@fulmen/proto/router/v1/router';
import { TowerAdminServiceService } from '@fulmen/proto/tower/v1/tower';
import type { RpcConnector } from '@fulmen/rpc';
import type { Logger, Runtime } from '@fulmen/service';
import type { Call, Guard } from '../auth/guard.ts';
import type { ConsoleConfig, FleetService } from '../config.ts';
import { type CallTerms, ReplicaSet } from '../upstream/replicas.ts';

export interface ConsoleContext {
  readonly config: ConsoleConfig;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly guard: Guard;
  readonly connectorOf: (service: FleetService) => RpcConnector;
  readonly bus: Bus;
  readonly curve: Secp256k1;
  readonly managers: ReplicaSet<typeof ManagerServiceService>;
  readonly chain: ReplicaSet<typeof ChainServiceService>;
  readonly wallet: ReplicaSet<typeof WalletServiceService>;
  readonly settlement: ReplicaSet<typeof SettlementServiceService>;
  readonly towers: ReplicaSet<typeof TowerAdminServiceService>;
  readonly routers: ReplicaSet<typeof RouterServiceService>;
}

/** A question: asked of another replica when one is silent for three seconds. */
export const query = (call: Call): CallTerms => ({
  deadlineMs: 10_000,
  attemptMs: 3_000,
  signal: call.signal,
});
/** A command: the replica that has it is left to finish. */
export const command = (call: Call): CallTerms => ({ deadlineMs: 30_000, signal: call.signal });
/** A command that talks with a peer before it answers. */
export const negotiation = (call: Call): CallTerms => ({ deadlineMs: 90_000, signal: call.signal });

export function replicaSets(
  config: ConsoleConfig,
  connectorOf: (service: FleetService) => RpcConnector,
  runtime: Runtime,
): Pick<ConsoleContext, 'managers' | 'chain' | 'wallet' | 'settlement' | 'towers' | 'routers'> {
  const toManagers = { connector: connectorOf('managers'), runtime };
  const toChain = { connector: connectorOf('chain'), runtime };
  const { managers, chain, routers } = config.fleet;
  return {
    managers: new ReplicaSet({
      ...toManagers,
      service: 'channel-manager',
      definition: ManagerServiceService,
      addresses: managers,
    }),
    chain: new ReplicaSet({
      ...toChain,
      service: 'chain-monitor',
      definition: ChainServiceService,
      addresses: chain,
    }),
    wallet: new ReplicaSet({
      ...toChain,
      service: 'chain-monitor',
      definition: WalletServiceService,
      addresses: chain,
    }),
    settlement: new ReplicaSet({
      ...toChain,
      service: 'chain-monitor',
      definition: SettlementServiceService,
      addresses: chain,
    }),
    towers: new ReplicaSet({
      ...toChain,
      service: 'chain-monitor',
      definition: TowerAdminServiceService,
      addresses: chain,
    }),
    routers: new ReplicaSet({
      connector: connectorOf('routers'),
      runtime,
      service: 'router',
      definition: RouterServiceService,
      addresses: routers,
    }),
  };
}
