/** The lane's chain: one real bitcoind on regtest, with a miner's wallet. */
import { BitcoindRpc } from '@fulmen/chain';
import { freePort } from '../../e2e/support/state.ts';
import { startBitcoind } from '../start-bitcoind.ts';
import { FeeProxy } from './fee-proxy.ts';

/** How a process reaches the node. */
export interface BitcoindAccess {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** ZMQ endpoints of raw blocks and transactions. */
  readonly zmqBlock: string;
  readonly zmqTx: string;
  height(): Promise<number>;
}

const USER = 'fulmen';
const PASSWORD = 'fulmen';
/** What the miner pays: its payments are what bitcoind learns its estimates from, and closes go by those. */
const FEERATE_SAT_PER_VB = 1;
/** Of user and password above: salt, and HMAC-SHA256 of the password under it (Bitcoin Core's rpcauth). */
const RPC_AUTH =
  'fulmen:7d9ba5ae63c3d4dc30583ff4fe65a67e$8abd981357f9cb97968002b1d637bdfd3fd3fd3cdd8bdbd1aa5363abd8fb0ba5';
/** Mature coins for every case. */
const FIRST_BLOCKS = 150;

export class Chain implements BitcoindAccess {
  readonly host = '127.0.0.1';
  readonly user = USER;
  readonly password = PASSWORD;
  readonly port: number;
  readonly zmqBlock: string;
  readonly zmqTx: string;
  readonly version: string;
  readonly rpc: BitcoindRpc;
  /** Everybody reaches the node through it: it may answer fee estimates of its own. */
  readonly fees: FeeProxy;
  readonly #stop: () => Promise<void>;
  readonly #miner: string;

  private constructor(parts: {
    port: number;
    zmqBlock: string;
    zmqTx: string;
    version: string;
    rpc: BitcoindRpc;
    fees: FeeProxy;
    stop: () => Promise<void>;
    miner: string;
  }) {
    this.port = parts.port;
    this.zmqBlock = parts.zmqBlock;
    this.zmqTx = parts.zmqTx;
    this.version = parts.version;
    this.rpc = parts.rpc;
    this.fees = parts.fees;
    this.#stop = parts.stop;
    this.#miner = parts.miner;
  }

  static async start(bitcoind: string): Promise<Chain> {
    const zmqBlock = `tcp://127.0.0.1:${await freePort()}`;
    const zmqTx = `tcp://127.0.0.1:${await freePort()}`;
    const {
      config,
      rpc: cookieRpc,
      stop,
    } = await startBitcoind(bitcoind, [
      `-rpcauth=${RPC_AUTH}`,
      `-zmqpubrawblock=${zmqBlock}`,
      `-zmqpubrawtx=${zmqTx}`,
    ]);
    const rpc = new BitcoindRpc({
      host: config.host,
      port: config.port,
      auth: { kind: 'password', user: USER, password: PASSWORD },
    });
    await cookieRpc.call('createwallet', 'miner');
    const miner = String(await cookieRpc.call('getnewaddress'));
    await rpc.call('generatetoaddress', FIRST_BLOCKS, miner);
    const { subversion } = (await rpc.call('getnetworkinfo')) as { readonly subversion: string };
    const fees = await FeeProxy.start({ host: config.host, port: config.port });
    return new Chain({
      port: fees.port,
      fees,
      zmqBlock,
      zmqTx,
      version: `bitcoind ${subversion.replaceAll('/', '')}`,
      rpc,
      stop: async () => {
        rpc.close();
        await fees.stop();
        await stop();
      },
      miner,
    });
  }

  get url(): string {
    return `http://${USER}:${PASSWORD}@${this.host}:${this.port}`;
  }

  /** An address that is in no node's wallet, and what pays to it. */
  async taproot(): Promise<{ readonly address: string; readonly scriptPubkey: Uint8Array }> {
    const address = String(await this.rpc.call('getnewaddress', '', 'bech32m'));
    const told = (await this.rpc.call('getaddressinfo', address)) as { readonly scriptPubKey: string };
    return { address, scriptPubkey: Uint8Array.from(Buffer.from(told.scriptPubKey, 'hex')) };
  }

  async height(): Promise<number> {
    return Number(await this.rpc.call('getblockcount'));
  }

  async mine(blocks: number): Promise<void> {
    await this.rpc.call('generatetoaddress', blocks, this.#miner);
  }

  /** A P2WPKH address of the miner's wallet. */
  async newAddress(): Promise<string> {
    return String(await this.rpc.call('getnewaddress', '', 'bech32'));
  }

  /** The scriptPubKey of an address, in hex. */
  async scriptOf(address: string): Promise<string> {
    const { scriptPubKey } = (await this.rpc.call('validateaddress', address)) as { scriptPubKey: string };
    return scriptPubKey;
  }

  /** Blocks with nothing but what is named, which need not be in the mempool: txids or whole transactions in hex. */
  async mineOnly(blocks: number, transactions: readonly string[] = []): Promise<void> {
    for (let i = 0; i < blocks; i += 1)
      await this.rpc.call('generateblock', this.#miner, i === 0 ? transactions : []);
  }

  /** Undoes the newest blocks; what was in them is back in the mempool, where it may be. */
  async undo(blocks: number): Promise<void> {
    const height = await this.height();
    const hash = await this.rpc.call('getblockhash', height - blocks + 1);
    await this.rpc.call('invalidateblock', hash);
  }

  /**
   * The chain forgets a transaction in the mempool for good: the payment of the miner's that it spends is undone, and
   * its coins are paid elsewhere, deeper than they were before.
   */
  async replaceAncestorOf(txid: string): Promise<void> {
    interface Verbose {
      readonly vin: readonly { readonly txid: string; readonly vout: number }[];
      readonly vout: readonly { readonly value: number }[];
    }
    const { vin } = (await this.rpc.call('getrawtransaction', txid, true)) as Verbose;
    const parent = (await this.rpc.call('gettransaction', vin[0]?.txid ?? '', true, true)) as {
      readonly confirmations: number;
      readonly decoded: Verbose;
    };
    const { decoded, confirmations } = parent;
    await this.undo(confirmations);
    const totalSat = decoded.vout.reduce((sum, { value }) => sum + Math.round(value * 1e8), 0);
    const elsewhere = { [await this.newAddress()]: totalSat / 1e8 };
    const inputs = decoded.vin.map(({ txid: spent, vout }) => ({ txid: spent, vout }));
    const raw = await this.rpc.call('createrawtransaction', inputs, [elsewhere]);
    const { hex } = (await this.rpc.call('signrawtransactionwithwallet', raw)) as { readonly hex: string };
    await this.mineOnly(confirmations + 1, [hex]);
  }

  /** Output scripts of a transaction in the mempool, in hex. */
  async outputScripts(txid: string): Promise<readonly string[]> {
    const found = (await this.rpc.call('getrawtransaction', txid, true)) as {
      readonly vout: readonly { readonly scriptPubKey: { readonly hex: string } }[];
    };
    return found.vout.map(({ scriptPubKey }) => scriptPubKey.hex);
  }

  async fund(address: string, valueSat: bigint): Promise<void> {
    const ordinary = ['', '', false, true, null, 'unset', false];
    await this.rpc.call('sendtoaddress', address, Number(valueSat) / 1e8, ...ordinary, FEERATE_SAT_PER_VB);
  }

  async mempool(): Promise<readonly string[]> {
    return (await this.rpc.call('getrawmempool')) as readonly string[];
  }

  /** The transaction in the mempool that spends an output. */
  async spenderInMempool(fundingTxid: string, outputIndex: number): Promise<string | undefined> {
    for (const txid of await this.mempool()) {
      const { vin } = (await this.rpc.call('getrawtransaction', txid, true)) as {
        readonly vin: readonly { readonly txid: string; readonly vout: number }[];
      };
      if (vin.some((input) => input.txid === fundingTxid && input.vout === outputIndex)) return txid;
    }
    return undefined;
  }

  async stop(): Promise<void> {
    await this.#stop();
  }
}
