// Follows a chain through Bitcoin Core's JSON-RPC, block by block, reorganisations included.
import { createHash } from 'node:crypto';
import { fromHex, toDisplayHash, toHex, WalletError } from './ldk.ts';

/** Thrown for an answer with an error, such as a rejected transaction. */
export class RpcError extends WalletError {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** A client of Bitcoin Core's JSON-RPC; the URL may carry user and password. */
export class ChainRpc {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  constructor(url: string) {
    const parsed = new URL(url);
    this.#headers = { 'content-type': 'application/json' };
    if (parsed.username !== '') {
      const user = `${decodeURIComponent(parsed.username)}:${decodeURIComponent(parsed.password)}`;
      this.#headers['authorization'] = `Basic ${Buffer.from(user).toString('base64')}`;
    }
    parsed.username = '';
    parsed.password = '';
    this.#url = parsed.href;
  }

  async call<T>(method: string, ...params: readonly unknown[]): Promise<T> {
    const body = JSON.stringify({ jsonrpc: '1.0', id: 1, method, params });
    const response = await fetch(this.#url, {
      method: 'POST',
      headers: this.#headers,
      body,
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    let answer: { result?: T; error?: { code: number; message: string } | null };
    try {
      answer = JSON.parse(text) as typeof answer;
    } catch {
      throw new WalletError(`${method}: HTTP ${response.status} ${text.slice(0, 200)}`);
    }
    if (answer.error) throw new RpcError(answer.error.code, `${method}: ${answer.error.message}`);
    return answer.result as T;
  }

  async block(hash: string): Promise<Uint8Array> {
    return fromHex(await this.call<string>('getblock', hash, 0));
  }
}

/** A block of the chain that the wallet follows. */
export type ChainBlock = { readonly height: number; readonly hash: string; readonly headerHex: string };

/** One step along the chain. */
export type ChainStep =
  | { readonly kind: 'connect'; readonly block: ChainBlock; readonly raw: Uint8Array }
  | { readonly kind: 'disconnect'; readonly block: ChainBlock };

// A monitor is written at least every few dozen blocks, so this reaches back behind the oldest one.
const KEPT_BLOCKS = 500;

/** The tip and the blocks before it, which a restart needs to see where the chain forked meanwhile. */
export class ChainFollower {
  readonly rpc: ChainRpc;
  #recent: ChainBlock[];
  /** Headers of blocks that a reorganisation removed, by hash. */
  #stale: Map<string, ChainBlock>;

  constructor(
    rpc: ChainRpc,
    state: { readonly recent: readonly ChainBlock[]; readonly stale: readonly ChainBlock[] },
  ) {
    this.rpc = rpc;
    this.#recent = [...state.recent];
    this.#stale = new Map(state.stale.map((block) => [block.hash, block]));
  }

  /** The current tip as the start of a new wallet. */
  static async fromTip(rpc: ChainRpc): Promise<ChainFollower> {
    const hash = await rpc.call<string>('getbestblockhash');
    const raw = await rpc.block(hash);
    for (let height = await rpc.call<number>('getblockcount'); height >= 0; height -= 1) {
      // The chain may have grown between the two calls.
      if ((await rpc.call<string>('getblockhash', height)) !== hash) continue;
      return new ChainFollower(rpc, {
        recent: [{ height, hash, headerHex: toHex(raw.subarray(0, 80)) }],
        stale: [],
      });
    }
    throw new WalletError('the chain was reorganised while the wallet started; start it again');
  }

  get tip(): ChainBlock {
    const tip = this.#recent.at(-1);
    if (tip === undefined)
      throw new WalletError('the chain was reorganised deeper than the wallet remembers');
    return tip;
  }

  /** Seconds since 1970 in the tip's header: the wallet's clock. */
  get tipTime(): number {
    return Buffer.from(this.tip.headerHex, 'hex').readUInt32LE(68);
  }

  at(height: number): ChainBlock | undefined {
    return this.#recent[height - (this.#recent[0]?.height ?? 0)];
  }

  stale(hash: string): ChainBlock | undefined {
    return this.#stale.get(hash);
  }

  /** The next step towards the best chain, or undefined at its tip. The caller applies it with {@link apply}. */
  async next(): Promise<ChainStep | undefined> {
    const best = await this.rpc.call<string>('getbestblockhash');
    if (best === this.tip.hash) return undefined;
    const { tip } = this;
    const count = await this.rpc.call<number>('getblockcount');
    if (count < tip.height || (await this.rpc.call<string>('getblockhash', tip.height)) !== tip.hash) {
      return { kind: 'disconnect', block: tip };
    }
    if (count === tip.height) return undefined;
    const hash = await this.rpc.call<string>('getblockhash', tip.height + 1);
    const raw = await this.rpc.block(hash);
    const header = raw.subarray(0, 80);
    if (blockHash(header) !== hash) throw new WalletError(`block ${hash} does not have its hash`);
    // A reorganisation between the calls; the next look sees it.
    if (toDisplayHash(header.subarray(4, 36)) !== tip.hash) return undefined;
    return { kind: 'connect', block: { height: tip.height + 1, hash, headerHex: toHex(header) }, raw };
  }

  apply(step: ChainStep): void {
    if (step.kind === 'connect') {
      this.#recent.push(step.block);
      if (this.#recent.length > KEPT_BLOCKS) this.#recent.shift();
      return;
    }
    this.#recent.pop();
    this.#stale.set(step.block.hash, step.block);
    for (const hash of this.#stale.keys()) {
      if (this.#stale.size <= KEPT_BLOCKS) break;
      this.#stale.delete(hash);
    }
  }

  save(): { recent: readonly ChainBlock[]; stale: readonly ChainBlock[] } {
    return { recent: [...this.#recent], stale: [...this.#stale.values()] };
  }
}

function blockHash(header: Uint8Array): string {
  const once = createHash('sha256').update(header).digest();
  return toDisplayHash(createHash('sha256').update(once).digest());
}
