/** Composes the console from its ports. */
import type { Bus } from '@fulmen/bus';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  BackupServiceService,
  ChannelServiceService,
  EventServiceService,
  GraphServiceService,
  InvoiceServiceService,
  NodeServiceService,
  OnChainServiceService,
  PaymentServiceService,
  PeerServiceService,
  TowerServiceService,
} from '@fulmen/proto/node/v1/node';
import type { RpcConnector, RpcServer } from '@fulmen/rpc';
import {
  essentialTasks,
  type Logger,
  type Metrics,
  type RunningService,
  type Runtime,
} from '@fulmen/service';
import { heedDamage } from '@fulmen/store/heed-damage';
import { Guard } from './auth/guard.ts';
import type { TokenSource } from './auth/tokens.ts';
import type { ConsoleConfig, FleetService } from './config.ts';
import { EventFeed } from './events/feed.ts';
import type { EventReader } from './events/reader.ts';
import { backupService } from './rpc/backup.ts';
import { channelService } from './rpc/channels.ts';
import { type ConsoleContext, replicaSets } from './rpc/context.ts';
import { eventService } from './rpc/events.ts';
import { graphService } from './rpc/graph.ts';
import { invoiceService } from './rpc/invoices.ts';
import { nodeService } from './rpc/node.ts';
import { onChainService } from './rpc/on-chain.ts';
import { paymentService } from './rpc/payments.ts';
import { peerService } from './rpc/peers.ts';
import { towerService } from './rpc/towers.ts';

export interface ConsolePorts {
  readonly runtime: Runtime;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly server: RpcServer;
  /** How each kind of service is dialled: with the console's certificate, or in plaintext. */
  readonly connectorOf: (service: FleetService) => RpcConnector;
  readonly bus: Bus;
  readonly events: EventReader;
  readonly tokens: TokenSource;
  readonly curve: Secp256k1;
}

/** A revoked token stops working within this time. */
const TOKENS_INTERVAL_MS = 5_000;
const STOP_GRACE_MS = 5_000;

/** Rejects with TokenFileError when the tokens cannot be read. Whoever made the ports closes them after `stop`. */
export async function startConsole(config: ConsoleConfig, ports: ConsolePorts): Promise<RunningService> {
  const { logger, metrics, server, connectorOf, bus, curve } = ports;
  const failed = Promise.withResolvers<Error>();
  const runtime = essentialTasks(ports.runtime, failed.resolve);
  const guard = new Guard({ runtime, logger, metrics, limits: config.limits });
  guard.setTokens(await ports.tokens.load());
  const reload = runtime.spawn('token reload', async (signal) => {
    for (;;) {
      await runtime.sleep(TOKENS_INTERVAL_MS, signal);
      // A file that is being edited keeps the tokens of before.
      await ports.tokens.load().then(
        (entries) => guard.setTokens(entries),
        (error: unknown) =>
          logger.warn({ err: error }, 'the tokens could not be read again: the old ones stay'),
      );
    }
  });
  const feed = new EventFeed(heedDamage(ports.events, failed.resolve), runtime);
  const unsubscribe = bus.subscribe('fulmen.event', () => feed.wake());
  const context: ConsoleContext = {
    config,
    runtime,
    logger,
    guard,
    connectorOf,
    bus,
    curve,
    ...replicaSets(config, connectorOf, runtime),
  };
  let address = '';
  server.add(
    NodeServiceService,
    nodeService(context, () => address),
  );
  server.add(PeerServiceService, peerService(context));
  server.add(ChannelServiceService, channelService(context));
  server.add(InvoiceServiceService, invoiceService(context));
  server.add(PaymentServiceService, paymentService(context));
  server.add(OnChainServiceService, onChainService(context));
  server.add(BackupServiceService, backupService(context));
  server.add(TowerServiceService, towerService(context));
  server.add(GraphServiceService, graphService(context));
  server.add(EventServiceService, eventService(context, feed));
  const stopWork = async (): Promise<void> => {
    unsubscribe();
    await Promise.all([feed.close(), reload.stop()]);
  };
  try {
    address = await server.listen();
  } catch (error) {
    await stopWork();
    throw error;
  }
  logger.info({ address }, 'the public API is open');
  return {
    address,
    failed: failed.promise,
    stop: async () => {
      // Subscribers first: their streams would hold the server open.
      await stopWork();
      await server.stop(STOP_GRACE_MS);
    },
  };
}
