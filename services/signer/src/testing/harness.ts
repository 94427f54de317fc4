/** Signers on a network in memory, and a client that keeps one SignBatch stream. */
import {
  type RefusalKind,
  SignerServiceService,
  type SignItem,
  type SignResult,
  type SignBatchRequest,
  type SignBatchResponse,
} from '@fulmen/proto/signer/v1/signer';
import type { Secp256k1 } from '@fulmen/crypto';
import { type Client, type DuplexStream, MemoryNetwork, RpcError } from '@fulmen/rpc';
import { Metrics, nodeRuntime, type RunningService, silentLogger } from '@fulmen/service';
import { type GenerationMarker, memoryMarker } from '../marker.ts';
import { type SignerOptions, start } from '../start.ts';
import { MemorySignerStore } from '../store/memory.ts';
import type { SignerStore } from '../store/port.ts';
import type { TestParty } from './channel.ts';

export type SignerClient = Client<typeof SignerServiceService>;

export const ALL_CAPABILITIES = ['ecdh', 'channel', 'claim', 'wallet', 'node', 'seal'];

export interface HarnessOptions {
  readonly secp: Secp256k1;
  readonly party: TestParty;
  readonly store?: SignerStore;
  readonly marker?: GenerationMarker;
  readonly options?: Partial<SignerOptions>;
}

export interface Harness {
  readonly client: SignerClient;
  clientWith(...capabilities: string[]): SignerClient;
  readonly service: RunningService;
  readonly metrics: Metrics;
  stop(): Promise<void>;
}

export const testRuntime = nodeRuntime({ onFailure: () => undefined });

export async function startSigner({
  secp,
  party,
  store = new MemorySignerStore(),
  marker = memoryMarker(),
  options,
}: HarnessOptions): Promise<Harness> {
  const network = new MemoryNetwork();
  const metrics = new Metrics('signer');
  const service = await start(
    { network: 'regtest', leaseMs: 200, ...options },
    {
      rpcServer: network.server('signer'),
      store,
      runtime: testRuntime,
      logger: silentLogger,
      metrics,
      secp,
      keys: party.keys,
      marker,
    },
  );
  const clientWith = (...capabilities: string[]): SignerClient =>
    network.connector('client', capabilities).client(SignerServiceService, service.address);
  return {
    client: clientWith(...ALL_CAPABILITIES),
    clientWith,
    service,
    metrics,
    stop: () => service.stop(),
  };
}

/** One stream, batches in flight by id. */
export class BatchClient {
  readonly #stream: DuplexStream<SignBatchResponse, SignBatchRequest>;
  readonly #waiting = new Map<
    bigint,
    { resolve: (results: SignResult[]) => void; reject: (error: unknown) => void }
  >();
  #nextId = 1n;

  constructor(client: SignerClient) {
    this.#stream = client.signBatch();
    this.#read().catch((error: unknown) => {
      for (const { reject } of this.#waiting.values()) reject(error);
    });
  }

  async #read(): Promise<void> {
    for await (const { batchId, results } of this.#stream) {
      this.#waiting.get(batchId)?.resolve(results);
      this.#waiting.delete(batchId);
    }
    for (const { reject } of this.#waiting.values()) reject(new RpcError('unavailable', 'the stream ended'));
  }

  send(items: SignItem[]): Promise<SignResult[]> {
    const batchId = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(batchId, { resolve, reject });
      this.#stream.send({ batchId, items }).catch(reject);
    });
  }

  /** One item; a refusal as its tag and kind. */
  async one(
    item: SignItem,
  ): Promise<
    | { readonly policy: string; readonly kind: RefusalKind }
    | Extract<NonNullable<SignResult['outcome']>, { $case: 'success' }>['value']
  > {
    const [result] = await this.send([item]);
    if (result?.outcome === undefined) throw new RpcError('internal', 'no result');
    return result.outcome.value;
  }

  end(): void {
    this.#stream.end();
  }
}
