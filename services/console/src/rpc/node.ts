/** NodeService: who this node is, and how its fleet is. */
import { toHex } from '@fulmen/codec';
import { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import type {
  FleetMember,
  GetFleetResponse,
  GetInfoResponse,
  NodeServiceService,
} from '@fulmen/proto/node/v1/node';
import { RouterServiceService } from '@fulmen/proto/router/v1/router';
import type { Handlers } from '@fulmen/rpc';
import type { Call } from '../auth/guard.ts';
import type { FleetService } from '../config.ts';
import { checkHealth } from '../upstream/health.ts';
import { VERSION } from '../version.ts';
import { type ConsoleContext, query } from './context.ts';

/** For one health check or one detail of a member. */
const FLEET_DEADLINE_MS = 1_500;
/** Members asked at once; a fleet beyond this shows its first ones. */
const MAX_MEMBERS = 256;

export function nodeService(
  context: ConsoleContext,
  ownAddress: () => string,
): Handlers<typeof NodeServiceService> {
  return {
    getInfo: context.guard.unary({ name: 'NodeService.GetInfo', scope: 'read' }, (_request, call) =>
      getInfo(context, call),
    ),
    getFleet: context.guard.unary({ name: 'NodeService.GetFleet', scope: 'read' }, () =>
      getFleet(context, ownAddress()),
    ),
  };
}

async function getInfo(context: ConsoleContext, call: Call): Promise<GetInfoResponse> {
  const { managers, chain, config } = context;
  const [info, best] = await Promise.all([
    managers.run((client, options) => client.getInfo({}, options), query(call)),
    // The node is described without its chain when that does not answer.
    chain
      .run((client, options) => client.getBestBlock({}, options), { deadlineMs: 2_000, signal: call.signal })
      .catch(() => undefined),
  ]);
  const nodeId = toHex(info.nodeId);
  return {
    nodeId: info.nodeId,
    alias: config.alias,
    network: info.network,
    blockHeight: info.blockHeight,
    // A hash belongs to its height: none is better than that of another block.
    blockHash: best?.height === info.blockHeight ? best.blockHash : '',
    channelsOpen: info.channelsOpen,
    channelsPending: info.channelsPending,
    peersConnected: info.peersConnected,
    version: VERSION,
    uris: config.publicAddresses.map((address) => `${nodeId}@${address}`),
  };
}

/** The detail of a member that serves; '' when it has none to tell. */
type Detail = (address: string) => Promise<string>;

async function getFleet(context: ConsoleContext, ownAddress: string): Promise<GetFleetResponse> {
  const { fleet } = context.config;
  const deadline = { deadlineMs: FLEET_DEADLINE_MS };
  const { connectorOf } = context;
  const shards = await managersByAddress(context);
  const managers: Detail = (address) => {
    const owned = shards.get(address);
    return Promise.resolve(owned === undefined ? '' : `owns ${owned} shards`);
  };
  const chain: Detail = async () => {
    const best = await context.chain.run((client, options) => client.getBestBlock({}, options), {
      ...deadline,
      signal: new AbortController().signal,
    });
    return `${best.network}, block ${best.height}`;
  };
  const router: Detail = async (address) => {
    const graph = await connectorOf('routers')
      .client(RouterServiceService, address)
      .getGraphInfo({}, deadline);
    return `graph of ${graph.nodes} nodes, ${graph.channels} channels`;
  };
  const nothing: Detail = () => Promise.resolve('');
  const managerAddresses = [...new Set([...fleet.managers, ...shards.keys()])];
  const asked: readonly (readonly [FleetService, string, readonly string[], Detail])[] = [
    ['managers', 'channel-manager', managerAddresses, managers],
    ['chain', 'chain-monitor', fleet.chain, chain],
    ['routers', 'router', fleet.routers, router],
    ['signers', 'signer', fleet.signers, nothing],
    ['gateways', 'peer-gateway', fleet.gateways, nothing],
  ];
  const members = asked.flatMap(([kind, service, addresses, detail]) =>
    addresses.map((address) => ({ kind, service, address, detail })),
  );
  const self: FleetMember = {
    service: 'console',
    address: ownAddress,
    status: 'serving',
    detail: `version ${VERSION}`,
  };
  const others = members
    .slice(0, MAX_MEMBERS)
    .map(async ({ kind, service, address, detail }): Promise<FleetMember> => {
      const health = await checkHealth(connectorOf(kind), address, FLEET_DEADLINE_MS);
      const told = health.status === 'serving' ? await detail(address).catch(() => '') : health.detail;
      return { service, address, status: health.status, detail: told };
    });
  return { members: [self, ...(await Promise.all(others))] };
}

/** Replicas as the managers know them: configured addresses may be a load balancer's. */
async function managersByAddress({ connectorOf, config }: ConsoleContext): Promise<Map<string, number>> {
  const answers = config.fleet.managers.map((address) =>
    connectorOf('managers')
      .client(ManagerServiceService, address)
      .getInfo({}, { deadlineMs: FLEET_DEADLINE_MS }),
  );
  const info = await Promise.any(answers).catch(() => undefined);
  return new Map(
    (info?.replicas ?? []).slice(0, MAX_MEMBERS).map(({ address, shards }) => [address, shards]),
  );
}
