/** A fleet of which only chain-monitor and the signer live, with one channel of a scenario and some coins. */
import { displayHash } from '@fulmen/bitcoin';
import { spendAnyone } from '@fulmen/chain/compliance';
import { decodeSummary } from '@fulmen/chain-monitor/settlement/summary';
import { InternalError } from '@fulmen/codec';
import type { SettlementRecord } from '@fulmen/store/chain/chain-store';
import { MemoryChainState } from '@fulmen/store/chain/memory';
import type { MemoryManagerState } from '@fulmen/store/manager/memory-state';
import { hexKey } from '@fulmen/store/manager/source';
import type { FleetSigner } from './fleet-signer.ts';
import { Clock, LEASE_MS, type Machine, Process } from './process.ts';
import type { Scenario } from './scenario.ts';
import { World, type WorldOptions } from './world.ts';

const WALLET_COINS = 4;
const WALLET_COIN_SAT = 150_000n;
/** What the wallet has before the channel closes. */
export const INITIAL_SAT = BigInt(WALLET_COINS) * WALLET_COIN_SAT;
export const CALM_SAT_PER_KVB = 2_000;

export class Stage {
  readonly scenario: Scenario;
  readonly world: World;
  readonly manager: MemoryManagerState;
  readonly machine: Machine;
  #process: Process | undefined;
  processes = 0;

  constructor(
    scenario: Scenario,
    signer: FleetSigner,
    options: WorldOptions & Pick<Machine, 'config' | 'sees'>,
  ) {
    this.scenario = scenario;
    this.world = new World(options);
    this.world.chain.feerateEstimateSatPerKvb = CALM_SAT_PER_KVB;
    this.manager = scenario.rows();
    const clock = new Clock();
    this.machine = {
      world: this.world,
      state: new MemoryChainState(this.manager, () => clock.nowMs),
      signer: signer.client(),
      clock,
      broadcasts: [],
      refused: [],
      complaints: [],
      ...(options.config === undefined ? {} : { config: options.config }),
      ...(options.sees === undefined ? {} : { sees: options.sees }),
    };
  }

  get process(): Process {
    if (this.#process === undefined) throw new InternalError('nothing runs');
    return this.#process;
  }

  get settlement(): SettlementRecord | undefined {
    return this.machine.state.settlement.settlements.get(hexKey(this.scenario.channelId));
  }

  /** A channel, unless its funding is withheld, and a wallet with coins, six blocks deep. */
  async open(funding: 'mined' | 'withheld' = 'mined'): Promise<void> {
    const process = await this.restart();
    const scripts: Uint8Array[] = [];
    for (let i = 0; i < WALLET_COINS; i++) {
      const address = process.wallet.newAddress({ addressType: 'p2wpkh' });
      await process.turn();
      scripts.push(Uint8Array.from((await address).scriptPubkey));
    }
    const coin = this.world.freshCoin();
    const gifts = spendAnyone(
      [{ txid: displayHash(coin.txid), vout: coin.vout }],
      [coin.valueSat - INITIAL_SAT - 5_000n],
    );
    const outputs = [...scripts.map((script) => ({ script, valueSat: WALLET_COIN_SAT })), ...gifts.outputs];
    const published = funding === 'mined' ? [this.scenario.fundingTx] : [];
    this.world.mine([...published, { ...gifts, outputs }]);
    for (let i = 0; i < 6; i++) this.world.mine();
    await process.turn();
  }

  /** The manager decides to close: its step as it commits it. */
  async forceClose(): Promise<void> {
    const key = hexKey(this.scenario.channelId);
    const closing = this.scenario.closingRows();
    const entry = closing.channels.get(key);
    const log = closing.monitorLog.get(key) ?? [];
    const before = this.scenario.rows().monitorLog.get(key)?.length ?? 0;
    if (entry === undefined) throw new InternalError('the manager has no such channel');
    this.manager.channels.set(key, entry);
    this.manager.monitorLog.set(key, [...(this.manager.monitorLog.get(key) ?? []), ...log.slice(before)]);
    await this.process.turn();
  }

  /** Another process on the same rows. */
  async restart(): Promise<Process> {
    if (this.#process !== undefined) {
      this.#process.kill();
      this.machine.clock.advance(LEASE_MS + 1);
    }
    this.processes += 1;
    this.#process = await Process.start(this.machine);
    return this.#process;
  }

  /** Whether chain-monitor has nothing left to do for the channel. */
  isOver(): boolean {
    const { claims, sweeps } = this.machine.state.settlement;
    return this.settlement?.stage === 'resolved' && claims.size === 0 && sweeps.size === 0;
  }

  /** Whether every output of the close has its end, and nothing is left but to wait until that is deep enough. */
  isOnlyBurying(): boolean {
    const { settlement } = this;
    if (settlement?.stage !== 'closed' || this.world.chain.mempool.entries().length > 0) return false;
    return decodeSummary(settlement.summary).every(
      ({ kind, status, untilHeight }) =>
        kind === 'anchor' || (status === 'spent' && (untilHeight ?? 0) < this.world.height),
    );
  }

  /** Outputs that are being claimed though the chain has them spent, by row; after any block there are none. */
  spentClaims(): string[] {
    const { claims, sweeps } = this.machine.state.settlement;
    const isSpent = (at: { readonly txid: Uint8Array; readonly outputIndex: number }): boolean =>
      this.world.spenderOf(`${displayHash(at.txid)}:${at.outputIndex}`) !== undefined;
    const pending = [...sweeps.values()].filter(({ confirmedHeight }) => confirmedHeight === undefined);
    const confirmed = new Set(
      [...sweeps.values()].flatMap((sweep) =>
        sweep.confirmedHeight === undefined ? [] : [hexKey(sweep.sweepId)],
      ),
    );
    return [
      ...pending.flatMap(({ sweepId, claims: inputs, walletInputs }) =>
        [...inputs, ...walletInputs].some(isSpent) ? [`sweep ${hexKey(sweepId)}`] : [],
      ),
      ...[...claims.values()].flatMap(({ outPoint, sweepId }) =>
        isSpent(outPoint) && !(sweepId !== undefined && confirmed.has(hexKey(sweepId)))
          ? [`claim ${displayHash(outPoint.txid)}:${outPoint.outputIndex}`]
          : [],
      ),
    ];
  }

  isWalletScript(script: Uint8Array): boolean {
    return this.machine.state.addresses.has(hexKey(script));
  }
}
