/**
 * The chain as far as a simulation needs one: a height, fundings that confirm
 * once somebody broadcast them, and the RPCs of chain-monitor and router that
 * channel-managers call. It reports to the manager's rows as chain-monitor does.
 */
import { toHex } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { ChainServiceService, FeeTarget, WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { GossipServiceService, RouterServiceService } from '@fulmen/proto/router/v1/router';
import type { Handlers, MemoryNetwork } from '@fulmen/rpc';
import type { MemoryManagerDatabase } from '@fulmen/store/manager/memory';
import type { Scheduler } from '@fulmen/testing/simulation/index';

const FIRST_HEIGHT = 800_000;
const BLOCK_MS = 1_500;
const FEERATES: Readonly<Partial<Record<FeeTarget, number>>> = {
  [FeeTarget.FEE_TARGET_MAXIMUM_FEE_ESTIMATE]: 5_000,
  [FeeTarget.FEE_TARGET_ANCHOR_CHANNEL_FEE]: 1_000,
  [FeeTarget.FEE_TARGET_NON_ANCHOR_CHANNEL_FEE]: 1_000,
};
const LOWEST_FEERATE = 253;

interface ConfirmedFunding {
  readonly height: number;
  readonly txIndex: number;
}

export class SimChain {
  height = FIRST_HEIGHT;
  readonly #scheduler: Scheduler;
  readonly #database: MemoryManagerDatabase;
  readonly #mempool = new Set<string>();
  readonly #confirmed = new Map<string, ConfirmedFunding>();
  #doubt = '';
  /** Called after each block. */
  readonly onBlock: (() => void)[] = [];

  constructor(scheduler: Scheduler, database: MemoryManagerDatabase, hint: () => void) {
    this.#scheduler = scheduler;
    this.#database = database;
    this.onBlock.push(hint);
    this.#nextBlock();
  }

  /** From now on it is not known as it is, or (empty) is again. */
  doubt(reason: string): void {
    this.#doubt = reason;
  }

  broadcast(txid: Uint8Array): void {
    if (!this.#confirmed.has(toHex(txid))) this.#mempool.add(toHex(txid));
  }

  wasBroadcast(txid: Uint8Array): boolean {
    return this.#mempool.has(toHex(txid)) || this.#confirmed.has(toHex(txid));
  }

  confirmation(txid: Uint8Array): (ConfirmedFunding & { readonly depth: number }) | undefined {
    const found = this.#confirmed.get(toHex(txid));
    return found && { ...found, depth: this.height - found.height + 1 };
  }

  /** Offers the RPCs under the names that the services dial. */
  async listen(network: MemoryNetwork): Promise<void> {
    const chain = network.server('chain');
    chain.add(ChainServiceService, {
      getBestBlock: () =>
        Promise.resolve({
          blockHash: '',
          height: this.height,
          timeUnixSeconds: 0,
          network: 'regtest',
          halted: this.#doubt !== '',
          haltReason: this.#doubt,
        }),
      estimateFee: ({ target }: { target: FeeTarget }) =>
        Promise.resolve({ feerateSatPerKw: FEERATES[target] ?? LOWEST_FEERATE }),
    } as unknown as Handlers<typeof ChainServiceService>);
    chain.add(WalletServiceService, {
      // An identical retry gives the same transaction, as the contract says.
      fundChannel: ({
        channelKeysId,
        scriptPubkey,
      }: {
        channelKeysId: Uint8Array;
        scriptPubkey: Uint8Array;
      }) => {
        const transaction = sha256(Uint8Array.from([...channelKeysId, ...scriptPubkey]));
        return Promise.resolve({ transaction, txid: txidOf(transaction), outputIndex: 0, feeSat: 200n });
      },
      releaseFunding: () => Promise.resolve({}),
      getAnchorReserve: () => Promise.resolve({ requiredSat: 0n, missingSat: 0n }),
    } as unknown as Handlers<typeof WalletServiceService>);
    await chain.listen();
    const router = network.server('router');
    router.add(RouterServiceService, {
      publishOwn: () => Promise.resolve({}),
      reportPath: () => Promise.resolve({}),
      lookupChannel: () => Promise.resolve({ channel: undefined }),
      getNode: () => Promise.resolve({ found: false }),
    } as unknown as Handlers<typeof RouterServiceService>);
    router.add(GossipServiceService, {
      gossip: async (stream) => {
        for await (const _ of stream);
      },
    });
    await router.listen();
  }

  #nextBlock(): void {
    this.#scheduler.schedule(BLOCK_MS, 'block', () => {
      this.height += 1;
      for (const { kind, transactions } of this.#database.state.broadcasts) {
        if (kind !== 'funding') continue;
        for (const transaction of transactions) this.broadcast(txidOf(transaction));
      }
      for (const txid of this.#mempool)
        this.#confirmed.set(txid, { height: this.height, txIndex: this.#confirmed.size + 1 });
      this.#mempool.clear();
      for (const { watch } of this.#database.state.watches.values()) {
        const found = this.confirmation(watch.fundingTxid);
        if (found !== undefined)
          this.#database.reportFundingStatus(watch.channelId, { type: 'confirmed', ...found });
      }
      for (const listener of this.onBlock) listener();
      this.#nextBlock();
    });
  }
}

/** Transactions are names here; nothing in a simulation looks inside. */
function txidOf(transaction: Uint8Array): Uint8Array {
  return sha256(transaction);
}
