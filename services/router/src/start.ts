/** The router, wired: loads the graph, serves, and writes while it holds the lease. */
import { ChainServiceService } from '@fulmen/proto/chain/v1/chain';
import { GossipServiceService, RouterServiceService } from '@fulmen/proto/router/v1/router';
import { type Client, RpcError } from '@fulmen/rpc';
import { essentialTasks, type RunningService } from '@fulmen/service';
import { StoreError } from '@fulmen/store';
import { heedDamage } from '@fulmen/store/heed-damage';
import type { RouterConfig } from './config.ts';
import type { Writer } from './gossip/writer.ts';
import { followBestBlock, readBestBlock } from './jobs/best-block.ts';
import { loadGraph } from './jobs/load.ts';
import { routerMetrics } from './metrics.ts';
import type { RouterContext, RouterPorts } from './ports.ts';
import { Replica } from './replica.ts';
import { findRouteRpc } from './rpc/find-route.ts';
import { getGraphInfoRpc } from './rpc/get-graph-info.ts';
import { getNodeRpc } from './rpc/get-node.ts';
import { lookupChannelRpc, listChannelsRpc } from './rpc/graph-channels.ts';
import { publishOwnRpc } from './rpc/publish-own.ts';
import { reportPathRpc } from './rpc/report-path.ts';
import { RouterState } from './state.ts';

export type { RouterPorts } from './ports.ts';

/** Calls in flight get so long when the router stops. */
const STOP_GRACE_MS = 2_000;
/** Set on calls that a reader passes on, so that two readers never pass one to and fro. */
const FORWARDED = 'fulmen-forwarded';

/** Starts a router; it listens when the promise resolves, and writes already if the lease was free. */
export async function start(config: RouterConfig, ports: RouterPorts): Promise<RunningService> {
  const failed = Promise.withResolvers<Error>();
  const context: RouterContext = {
    state: new RouterState(config.chainHash, config.ownNodeId),
    chain: ports.connector.client(ChainServiceService, config.chainAddress),
    store: heedDamage(ports.store, failed.resolve),
    bus: ports.bus,
    runtime: essentialTasks(ports.runtime, failed.resolve),
    logger: ports.logger,
    metrics: routerMetrics(ports.metrics),
    secp: ports.secp,
    relayMs: config.relayMs,
  };
  const revision = await loadGraph(context);
  await readBestBlock(context);

  /** Absent until it listens and has asked for the lease. */
  const role: { replica?: Replica } = {};
  const clients = new Map<string, Client<typeof RouterServiceService>>();
  const writerElsewhere = (
    metadata: Readonly<Record<string, string>>,
  ): Client<typeof RouterServiceService> => {
    const address = role.replica?.writerAddress ?? '';
    if (address === '' || metadata[FORWARDED] !== undefined) {
      throw new RpcError('unavailable', 'no router holds the lease');
    }
    let client = clients.get(address);
    if (client === undefined) {
      client = ports.connector.client(RouterServiceService, address);
      clients.set(address, client);
    }
    return client;
  };
  const forwarded = { metadata: { [FORWARDED]: '1' } };

  ports.rpcServer.add(RouterServiceService, {
    findRoute: (request) => findRouteRpc(context, request),
    reportPath: async (request, { metadata }) => {
      reportPathRpc(context, request);
      // A reader learns for itself; the writer is the one that remembers.
      if (role.replica?.writer === undefined) await writerElsewhere(metadata).reportPath(request, forwarded);
      return {};
    },
    publishOwn: async (request, { metadata }) => {
      const writer = role.replica?.writer;
      if (writer === undefined) return writerElsewhere(metadata).publishOwn(request, forwarded);
      await asRpc(publishOwnRpc(context, writer, request));
      return {};
    },
    getGraphInfo: async () => getGraphInfoRpc(context),
    getNode: async (request) => getNodeRpc(context, request),
    lookupChannel: async (request) => lookupChannelRpc(context, request),
    listChannels: async (request) => listChannelsRpc(context, request),
  });
  ports.rpcServer.add(GossipServiceService, {
    gossip: async (stream) => {
      const writer: Writer | undefined = role.replica?.writer;
      if (writer === undefined) {
        // The gateway dials again, the address below or another replica.
        throw new RpcError('unavailable', 'this router only reads', {
          writer: role.replica?.writerAddress ?? '',
        });
      }
      await writer.serve(stream);
    },
  });
  const address = await ports.rpcServer.listen();
  const started = new Replica(
    context,
    {
      replicaId: config.replicaId,
      address: config.advertisedAddress ?? address,
      leaseMs: config.leaseMs,
    },
    revision,
  );
  await started.start();
  role.replica = started;
  const bestBlock = followBestBlock(context);
  return {
    address,
    // A lost lease makes a reader, and a store that is away is asked again; what does not get better by itself ends the process.
    failed: failed.promise,
    stop: async () => {
      await bestBlock.stop();
      await started.stop();
      await ports.rpcServer.stop(STOP_GRACE_MS);
    },
  };
}

/** A store that does not answer is nobody's mistake. */
async function asRpc<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StoreError) throw new RpcError('unavailable', error.message);
    throw error;
  }
}
