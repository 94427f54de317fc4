/**
 * Who may call what: one table for every service, asked in one place, where a service is added to its server. What the
 * table does not name is for nobody.
 *
 * A caller is known by the organizational units of its certificate (`deploy/certificates/make-certificates.ts`). A server
 * without TLS, for development, tells nobody from anybody: there each caller is `plaintext`.
 */
import type { AnyMethod } from './method.ts';
import { type CallContext, RpcError } from './transport.ts';

/** A unit of a certificate of the fleet's or of the towers' authority, or the want of TLS. */
export type Caller =
  | 'signer'
  | 'channel'
  | 'node'
  | 'claim'
  | 'wallet'
  | 'seal'
  | 'ecdh'
  | 'router'
  | 'console'
  | 'tower'
  | 'plaintext';

/** Any one of these will do. `anyone`: the service asks by itself who calls. */
export type Callers = 'anyone' | readonly Caller[];

/** By the service's full name: its callers, or those of each method. */
export type CallerTable = Readonly<Record<string, Callers | Readonly<Record<string, Callers>>>>;

// Services whose work is not the signer's go by the unit that is theirs alone, and are there without TLS too.
const MANAGER = ['channel', 'plaintext'] as const;
const GATEWAY = ['ecdh', 'plaintext'] as const;
const ROUTER = ['router', 'plaintext'] as const;
const CONSOLE = ['console', 'plaintext'] as const;

export const CALLERS: CallerTable = {
  // The signer answers certificates only.
  'fulmen.signer.v1.SignerService': {
    GetNode: ['signer', 'channel', 'node', 'claim', 'wallet', 'seal', 'ecdh', 'router', 'console'],
    Ecdh: ['ecdh'],
    NewChannelKeys: ['channel'],
    RegisterChannel: ['channel'],
    FenceShard: ['channel'],
    GetChannelStates: ['channel', 'claim'],
    GetPerCommitmentPoints: ['channel', 'claim'],
    SignBatch: ['channel'],
    SignClosing: ['channel'],
    SignHolderCommitment: ['claim'],
    SignClaim: ['claim'],
    SignInvoice: ['node'],
    SignGossip: ['node'],
    GetWalletDescriptors: ['wallet'],
    SignPsbt: ['wallet'],
    GetDerivedSecret: ['channel'],
    SealJusticeKey: ['seal'],
  },
  'fulmen.manager.v1.ManagerService': CONSOLE,
  'fulmen.link.v1.PeerLinkService': GATEWAY,
  'fulmen.chain.v1.ChainService': {
    GetBestBlock: [...MANAGER, ...ROUTER, ...CONSOLE],
    GetUtxo: ROUTER,
    EstimateFee: MANAGER,
    Broadcast: CONSOLE,
  },
  'fulmen.chain.v1.WalletService': {
    NewAddress: CONSOLE,
    GetBalance: CONSOLE,
    GetAnchorReserve: MANAGER,
    FundChannel: MANAGER,
    ReleaseFunding: MANAGER,
    SendCoins: CONSOLE,
    ListTransactions: CONSOLE,
    ExportDescriptors: CONSOLE,
  },
  // A tower serves it too, to whoever holds the tower's own certificate.
  'fulmen.chain.v1.SettlementService': [...CONSOLE, 'tower'],
  'fulmen.router.v1.RouterService': {
    FindRoute: MANAGER,
    // A router that only reads passes these on to the one that writes.
    ReportPath: [...MANAGER, ...ROUTER],
    PublishOwn: [...MANAGER, ...ROUTER],
    GetGraphInfo: CONSOLE,
    GetNode: [...MANAGER, ...CONSOLE],
    LookupChannel: [...MANAGER, ...CONSOLE],
    ListChannels: CONSOLE,
  },
  'fulmen.router.v1.GossipService': GATEWAY,
  'fulmen.tower.v1.TowerAdminService': CONSOLE,
  // Between zones: certificates only.
  'fulmen.tower.v1.TowerFeedService': ['tower'],
  'fulmen.tower.v1.JusticeSignerService': ['tower'],
  // The public API, where a token is asked for (`services/console/src/auth/guard.ts`).
  'fulmen.node.v1.NodeService': 'anyone',
  'fulmen.node.v1.PeerService': 'anyone',
  'fulmen.node.v1.ChannelService': 'anyone',
  'fulmen.node.v1.InvoiceService': 'anyone',
  'fulmen.node.v1.PaymentService': 'anyone',
  'fulmen.node.v1.OnChainService': 'anyone',
  'fulmen.node.v1.BackupService': 'anyone',
  'fulmen.node.v1.TowerService': 'anyone',
  'fulmen.node.v1.GraphService': 'anyone',
  'fulmen.node.v1.EventService': 'anyone',
};

/** A call that was denied: the method's name without its service, and the sentence that the caller got. */
export interface Denial {
  readonly method: string;
  readonly reason: string;
}

export interface ServiceTerms {
  /** Default: the fleet's table. */
  readonly callers?: CallerTable;
  /** Told of each call that is denied. */
  readonly onDenied?: (denial: Denial) => void;
}

export type AnyHandler = (request: unknown, context: CallContext) => unknown;

const isList = (value: CallerTable[string]): value is readonly Caller[] => Array.isArray(value);

/** Of a method, by its path ("/fulmen.signer.v1.SignerService/Ecdh"). */
export function callersOf(path: string, table: CallerTable = CALLERS): Callers {
  const [, service = '', method = ''] = path.split('/');
  const entry = Object.hasOwn(table, service) ? table[service] : undefined;
  if (entry === undefined) return [];
  if (entry === 'anyone' || isList(entry)) return entry;
  return (Object.hasOwn(entry, method) ? entry[method] : undefined) ?? [];
}

/** The handler, for its callers alone: to everyone else it throws `permission_denied`, before it sees anything. */
export function forCallers({ path }: AnyMethod, handler: AnyHandler, terms: ServiceTerms = {}): AnyHandler {
  const callers = callersOf(path, terms.callers);
  if (callers === 'anyone') return handler;
  const [, service = '', method = ''] = path.split('/');
  const units = callers.filter((one) => one !== 'plaintext');
  const wanted =
    units.length === 0 ? 'is for nobody' : `needs a certificate with the unit ${units.join(' or ')}`;
  return (request, context) => {
    if (callers.some((one) => context.capabilities.has(one))) return handler(request, context);
    const given = [...context.capabilities].join(', ');
    const reason = `${service.slice(service.lastIndexOf('.') + 1)}.${method} ${wanted}; the caller has ${given === '' ? 'none' : given}`;
    terms.onDenied?.({ method, reason });
    throw new RpcError('permission_denied', reason);
  };
}
