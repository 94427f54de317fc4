/**
 * npm run bench -- chain: what monitors cost. A block with 5,000 transactions
 * against 10,000 of them; a start with few and many open channels, and many
 * that ended; bytes for each revoked state, and the answer to a breach.
 *
 *   --states N     states of the large channel (default 1,000,000)
 */
import { NETWORKS, displayHash } from '@fulmen/bitcoin';
import { MemoryBusHub } from '@fulmen/bus';
import { ANYONE_SCRIPT, spendAnyone } from '@fulmen/chain/compliance';
import { start } from '@fulmen/chain-monitor/start';
import { Clock } from '../settlement/process.ts';
import { TEST_CONFIG } from '@fulmen/chain-monitor/testing/harness';
import { fakeSigner } from '@fulmen/chain-monitor/testing/fake-signer';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { InternalError, toHex, utf8Encode } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import { encodeMonitor, encodeMonitorParameters } from '@fulmen/monitor';
import { MemoryNetwork } from '@fulmen/rpc';
import { Metrics, type Runtime, silentLogger, spawnTask } from '@fulmen/service';
import { MemoryChainState, MemoryChainStore, emptyManagerTables } from '@fulmen/store/chain/memory';
import { DevChain, MemoryChainSource, storeTx, trustScripts } from '@fulmen/testing/devchain';
import { measureRevoked, monitorParameters, openMonitor } from './chain-revoked.ts';
import { machine } from './machine.ts';

const MATURITY = 110;
const BLOCK_TRANSACTIONS = 5_000;
const FEE_SAT = 1_000n;

/** Rows of channels that are open, and of others that ended long ago. */
function rows(open: number, resolved: number): MemoryChainState {
  const manager = emptyManagerTables();
  const state = new MemoryChainState(manager, () => 0);
  const template = encodeMonitor(openMonitor(monitorParameters(0)));
  const templateId = toHex(monitorParameters(0).channelId);
  for (let n = 1; n <= open; n++) {
    const parameters = monitorParameters(n);
    const [funding] = parameters.fundings;
    if (funding === undefined) throw new InternalError('no funding');
    const { channelId } = parameters;
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
      fundingTxid: funding.fundingTxid,
      fundingOutputIndex: funding.fundingOutputIndex,
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
function chainWith(transactions: number): { readonly chain: DevChain; readonly mineBusyBlock: () => void } {
  let seconds = 1_700_000_000;
  const chain = new DevChain({ now: () => seconds++, verify: trustScripts });
  chain.mine(MATURITY, ANYONE_SCRIPT);
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
  return { chain, mineBusyBlock: () => void chain.mineWith(spends, ANYONE_SCRIPT) };
}

/** Macrotasks without news, after which the service is idle. */
const QUIET_ROUNDS = 40;

async function quiet(): Promise<void> {
  for (let i = 0; i < QUIET_ROUNDS; i++) await new Promise((resolve) => setImmediate(resolve));
}

interface Running {
  readonly turn: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

async function run(chain: DevChain, state: MemoryChainState): Promise<Running> {
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
      store: new MemoryChainStore(state),
      source: new MemoryChainSource(chain),
      secp: secp256k1,
      server: new MemoryNetwork().server('chain'),
      signer: fakeSigner(secp256k1, new Uint8Array(64).fill(3), NETWORKS.regtest),
    },
  );
  return {
    turn: async () => {
      service.wake();
      await quiet();
      if (failures.length > 0) throw failures[0];
    },
    stop: async () => {
      const stopped = service.stop();
      await quiet();
      await stopped;
    },
  };
}

async function cpuMsOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

async function measureBlock(open: number): Promise<number> {
  const { chain, mineBusyBlock } = chainWith(BLOCK_TRANSACTIONS);
  const state = rows(open, 0);
  const running = await run(chain, state);
  await running.turn();
  mineBusyBlock();
  const cpuMs = await cpuMsOf(running.turn);
  const tip = state.blocks.at(-1);
  if (tip === undefined || displayHash(tip.hash) !== chain.chain.tip.hash)
    throw new InternalError('the block was not processed');
  await running.stop();
  return cpuMs;
}

async function measureStart(open: number, resolved: number): Promise<number> {
  const { chain } = chainWith(1);
  const state = rows(open, resolved);
  let running: Running | undefined;
  const cpuMs = await cpuMsOf(async () => {
    running = await run(chain, state);
    await running.turn();
  });
  if (state.blocks.length === 0) throw new InternalError('nothing was followed');
  await running?.stop();
  return cpuMs;
}

const args = process.argv.slice(2);
const states = args.includes('--states') ? Number(args[args.indexOf('--states') + 1]) : 1_000_000;
const print = (line: string): void => void process.stdout.write(`${line}\n`);
const grouped = (value: number): string => Math.round(value).toLocaleString('en');

print(`chain · ${machine()}`);
// Once without measuring, so that no figure pays for the compiler.
await measureBlock(100);
for (const open of [1_000, 10_000])
  print(
    `block of ${grouped(BLOCK_TRANSACTIONS)} transactions, ${grouped(open)} monitors: ${grouped(await measureBlock(open))} ms CPU`,
  );
for (const [open, resolved] of [
  [1_000, 0],
  [1_000, 50_000],
  [10_000, 0],
  [10_000, 50_000],
] as const)
  print(
    `start with ${grouped(open)} open channels and ${grouped(resolved)} that ended: ${grouped(await measureStart(open, resolved))} ms CPU`,
  );
const revoked = measureRevoked(states);
print(
  `channel with ${grouped(states)} revoked states: ${grouped(revoked.bytes)} bytes, ${revoked.bytesPerState.toFixed(1)} a state; read back in ${grouped(revoked.decodeMs)} ms; a breach is settled in ${revoked.breachMs.median.toFixed(1)} ms (median of any state; slowest ${revoked.breachMs.slowest.toFixed(1)} ms)`,
);
