/** The ports of the router, and what its parts are handed. */
import type { Bus } from '@fulmen/bus';
import type { Secp256k1 } from '@fulmen/crypto';
import type { ChainServiceService } from '@fulmen/proto/chain/v1/chain';
import type { Client, RpcConnector, RpcServer } from '@fulmen/rpc';
import type { Logger, Metrics, Runtime } from '@fulmen/service';
import type { RouterMetrics } from './metrics.ts';
import type { RouterState } from './state.ts';
import type { RouterStore } from './store/router-store.ts';

/** What a router process, a test or a simulation hands to `start`. */
export interface RouterPorts {
  readonly rpcServer: RpcServer;
  readonly connector: RpcConnector;
  readonly store: RouterStore;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly secp: Secp256k1;
}

export type ChainClient = Client<typeof ChainServiceService>;

/** What the router's parts share. */
export interface RouterContext {
  readonly state: RouterState;
  readonly chain: ChainClient;
  readonly store: RouterStore;
  readonly bus: Bus;
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: RouterMetrics;
  readonly secp: Secp256k1;
  /** Pause between two relays of what was accepted meanwhile. */
  readonly relayMs: number;
}

export const nowSeconds = (runtime: Pick<Runtime, 'wallClockMs'>): number =>
  Math.floor(runtime.wallClockMs() / 1_000);
