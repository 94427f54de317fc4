/** Rows and chains for measuring chain-monitor, and the service on them. */
import { NETWORKS, parseDisplayHash } from '@fulmen/bitcoin';
import { MemoryBusHub } from '@fulmen/bus';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { start } from '@fulmen/chain-monitor/start';
import { fakeSigner } from '@fulmen/chain-monitor/testing/fake-signer';
import { TEST_CONFIG } from '@fulmen/chain-monitor/testing/harness';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { InternalError, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { encodeMonitor, encodeMonitorParameters } from '@fulmen/monitor';
import { MemoryNetwork } from '@fulmen/rpc';
import { Metrics, type Runtime, silentLogger, spawnTask } from '@fulmen/service';
import type { ChainStore } from '@fulmen/store/chain/chain-store';
import { MemoryChainState, emptyManagerTables } from '@fulmen/store/chain/memory';
import { DevChain, MemoryChainSource, storeTx, trustScripts } from '@fulmen/testing/devchain';
import { Clock } from '../settlement/process.ts';
import { monitorParameters, openMonitor } from './chain-revoked.ts';

const MATURITY = 110;
const FEE_SAT = 1_000n;

/** Where channels begin: `spent` of them have their funding among the outputs that the busy block spends. */
export interface RowCounts {
  readonly open: number;
  readonly resolved: number;
  readonly spent?: readonly { readonly txid: Uint8Array; readonly vout: number }[];
}

/** Rows of channels that are open, and of others that ended long ago. */
export function rows({ open, resolved, spent = [] }: RowCounts): MemoryChainState {
  const manager = emptyManagerTables();
  const state = new MemoryChainState(manager, () => 0);
  const template = encodeMonitor(openMonitor(monitorParameters(0)));
  const templateId = toHex(monitorParameters(0).channelId);
  for (let n = 1; n <= open; n++) {
    const parameters = monitorParameters(n);
    const [funding] = parameters.fundings;
    if (funding === undefined) throw new InternalError('no funding');
    const { channelId } = parameters;
    const busy = spent[n - 1];
    // The monitors differ in nothing but their ids.
    const snapshot = Buffer.from(
      Buffer.from(template).toString('hex').replaceAll(templateId, toHex(channelId)),
      'hex',
    );
    manager.monitorBirths.set(toHex(channelId), encodeMonitorParameters(parameters));
    state.monitors.set(toHex(channelId), {
      channelId,
      updateId: 1n,
      snapshot: Uint8Array.from(snapshot),
      closeState: 'open',
    });
    state.fundings.set(toHex(channelId), {
      channelId,
      fundingTxid: busy?.txid ?? funding.fundingTxid,
      fundingOutputIndex: busy?.vout ?? funding.fundingOutputIndex,
      fundingValueSat: funding.fundingValueSat,
      scriptPubKey: fundingScriptPubKey(funding.holderFundingPubkey, funding.counterpartyFundingPubkey),
      minimumDepth: 6,
      seen: { height: 50, txIndex: 1 },
    });
  }
  for (let n = 1; n <= resolved; n++) {
    const channelId = sha256(utf8Encode(`resolved ${n}`));
    state.settlement.settlements.set(toHex(channelId), {
      channelId,
      stage: 'resolved',
      closeType: 'holder',
      closeTxid: sha256(channelId),
      closeHeight: 20,
      resolvedHeight: 60,
      summary: '{}',
      toldFulfilled: [],
      toldFailed: [],
    });
  }
  return state;
}

/** A chain whose last block pays very many people. */
export function chainWith(
  transactions: number,
  blocks = MATURITY,
): {
  readonly chain: DevChain;
  /** What the busy block spends. */
  readonly coins: readonly { readonly txid: Uint8Array; readonly vout: number }[];
  readonly mineBusyBlock: () => void;
} {
  let seconds = 1_700_000_000;
  const chain = new DevChain({ now: () => seconds++, verify: trustScripts });
  chain.mine(blocks, ANYONE_SCRIPT);
  const coin = chain.chain.at(1)?.transactions[0];
  const valueSat = coin?.tx.outputs[0]?.valueSat;
  if (coin === undefined || valueSat === undefined) throw new InternalError('no coin');
  const shareSat = valueSat / BigInt(transactions) - FEE_SAT;
  const fan = storeTx(
    spendAnyone(
      [{ txid: coin.txid, vout: 0 }],
      Array.from({ length: transactions }, () => shareSat),
    ),
  );
  chain.mineWith([fan], ANYONE_SCRIPT);
  const spends = Array.from({ length: transactions }, (_, vout) =>
    storeTx(spendAnyone([{ txid: fan.txid, vout }], [shareSat / 2n, shareSat / 2n - FEE_SAT])),
  );
  const coins = spends.map((_, vout) => ({ txid: parseDisplayHash(fan.txid), vout }));
  return { chain, coins, mineBusyBlock: () => void chain.mineWith(spends, ANYONE_SCRIPT) };
}

/** Macrotasks without news, after which the service is idle. */
const QUIET_ROUNDS = 40;

export async function quiet(): Promise<void> {
  for (let i = 0; i < QUIET_ROUNDS; i++) await new Promise((resolve) => setImmediate(resolve));
}

export interface Running {
  readonly turn: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** chain-monitor on a store; `isIdle` waits until it has nothing to do. */
export async function run(chain: DevChain, store: ChainStore, isIdle = quiet): Promise<Running> {
  const clock = new Clock();
  const failures: unknown[] = [];
  const runtime: Runtime = {
    wallClockMs: () => clock.nowMs,
    monotonicMs: () => clock.nowMs,
    sleep: (ms, signal) => clock.sleep(ms, signal),
    randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
    spawn: (name, work) => spawnTask(name, work, (_, error) => void failures.push(error)),
  };
  const service = await start(
    { ...TEST_CONFIG, mempoolPollMs: 1_000_000 },
    {
      runtime,
      logger: silentLogger,
      metrics: new Metrics('chain-monitor'),
      bus: new MemoryBusHub().connect('chain-monitor'),
      store,
      source: new MemoryChainSource(chain),
      secp: secp256k1,
      server: new MemoryNetwork().server('chain'),
      signer: fakeSigner(secp256k1, new Uint8Array(64).fill(3), NETWORKS.regtest),
    },
  );
  return {
    turn: async () => {
      service.wake();
      await isIdle();
      if (failures.length > 0) throw failures[0];
    },
    stop: async () => {
      const stopped = service.stop();
      await isIdle();
      await stopped;
    },
  };
}

export async function cpuMsOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
