// The fleet's public API, as any program of an operator would use it.
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
} from '@fulmen/proto/node/v1/node';
import { type CallOptions, type Client, grpcConnector, type RpcConnector } from '@fulmen/rpc';

/** Clients of every public service, and the metadata that carries the token. */
export type NodeClient = {
  readonly node: Client<NodeServiceService>;
  readonly peers: Client<PeerServiceService>;
  readonly channels: Client<ChannelServiceService>;
  readonly invoices: Client<InvoiceServiceService>;
  readonly payments: Client<PaymentServiceService>;
  readonly onchain: Client<OnChainServiceService>;
  readonly backups: Client<BackupServiceService>;
  readonly events: Client<EventServiceService>;
  readonly graph: Client<GraphServiceService>;
  /** Options for one call: the token and a deadline. */
  readonly auth: (deadlineMs?: number) => CallOptions;
  readonly close: () => void;
};

export function connectNode(address: string, token: string): NodeClient {
  const connector: RpcConnector = grpcConnector();
  return {
    node: connector.client(NodeServiceService, address),
    peers: connector.client(PeerServiceService, address),
    channels: connector.client(ChannelServiceService, address),
    invoices: connector.client(InvoiceServiceService, address),
    payments: connector.client(PaymentServiceService, address),
    onchain: connector.client(OnChainServiceService, address),
    backups: connector.client(BackupServiceService, address),
    events: connector.client(EventServiceService, address),
    graph: connector.client(GraphServiceService, address),
    auth: (deadlineMs = 60_000) => ({ deadlineMs, metadata: { authorization: `Bearer ${token}` } }),
    close: () => connector.close(),
  };
}
