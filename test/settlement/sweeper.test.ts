/** The sweeper in the real service, with the real signer, on a chain that checks every script and every fee. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Tx, decodeTx, displayHash, encodeTx, withWitness } from '@fulmen/bitcoin';
import { preimageOf } from '@fulmen/channel/testing/pair';
import { InternalError, toHex } from '@fulmen/codec';
import { secp256k1 } from '@fulmen/crypto/default';
import type { SignClaimRequest } from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { SignerClient } from '@fulmen/signer/testing/harness';
import type { ClaimRecord, SweepRecord } from '@fulmen/store/chain/chain-store';
import { storeRawTx, storeTx } from '@fulmen/testing/devchain';
import type { Case } from './cases.ts';
import { type HtlcOutput, htlcOutputs } from './counterparty.ts';
import { FleetSigner } from './fleet-signer.ts';
import { fleetKeys } from './policy-signer.ts';
import { OUTBOUND_EXPIRY_HEIGHT, TO_SELF_DELAY_BLOCKS, scenarioOf } from './scenario.ts';
import { INITIAL_SAT, Stage } from './stage.ts';
import { walletSpend } from './wallet-spend.ts';

const BLOCK_MS = 40_000;
const BASE: Case = {
  format: 'anchors',
  commitment: 'holder',
  htlcs: 'offered',
  knowledge: 'unknown',
  feerate: 'calm',
  fault: 'none',
};

let fleet: FleetSigner;
beforeAll(async () => {
  fleet = await FleetSigner.start(secp256k1, fleetKeys(secp256k1));
});
afterAll(() => fleet.stop());

const stages: Stage[] = [];
afterEach(() => {
  for (const stage of stages.splice(0)) stage.process.kill();
});

/** A signer that can be away, and can refuse claims. */
class Flaky {
  isAway = false;
  /** What it refuses to sign for. */
  refused: NonNullable<SignClaimRequest['output']>['$case'] | undefined;
  readonly client: SignerClient;

  constructor(real: SignerClient) {
    this.client = new Proxy(real, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function' || (name !== 'signClaim' && name !== 'signPsbt')) return member;
        return (...given: unknown[]): unknown => {
          if (this.isAway) return Promise.reject(new RpcError('unavailable', 'away'));
          const [request] = given as readonly Partial<SignClaimRequest>[];
          if (this.refused !== undefined && request?.output?.$case === this.refused)
            return Promise.reject(new RpcError('failed_precondition', 'policy-channel-unregistered'));
          return Reflect.apply(member, target, given);
        };
      },
    });
  }
}

async function opened(
  change: Partial<Case> = {},
  minRelayFeerateSatPerKvb = 1_000,
  funding: 'mined' | 'withheld' = 'mined',
): Promise<{ readonly stage: Stage; readonly signer: Flaky }> {
  const scenario = scenarioOf({ ...BASE, ...change });
  await fleet.learn(scenario.signer);
  const signer = new Flaky(fleet.client());
  const learned = Object.assign(Object.create(fleet) as FleetSigner, { client: () => signer.client });
  const stage = new Stage(scenario, learned, { minRelayFeerateSatPerKvb });
  stages.push(stage);
  await stage.open(funding);
  return { stage, signer };
}

async function closing(
  ...how: Parameters<typeof opened>
): Promise<{ readonly stage: Stage; readonly signer: Flaky }> {
  const one = await opened(...how);
  await one.stage.forceClose();
  return one;
}

async function mine(stage: Stage, blocks = 1): Promise<void> {
  for (let block = 0; block < blocks; block++) {
    stage.world.mine();
    stage.machine.clock.advance(BLOCK_MS);
    await stage.process.turn();
  }
}

const rowsOf = (stage: Stage): readonly SweepRecord[] => [...stage.machine.state.settlement.sweeps.values()];
const claimsOf = (stage: Stage): readonly ClaimRecord[] => [
  ...stage.machine.state.settlement.claims.values(),
];

function claimOf(stage: Stage, kind: string): ClaimRecord {
  const found = claimsOf(stage).find((claim) => claim.kind === kind);
  if (found === undefined) throw new InternalError(`no claim of ${kind}`);
  return found;
}

function sweepOf(stage: Stage, kind: string): SweepRecord {
  const { sweepId } = claimOf(stage, kind);
  const found = rowsOf(stage).find(
    (sweep) => sweepId !== undefined && toHex(sweep.sweepId) === toHex(sweepId),
  );
  if (found === undefined) throw new InternalError(`no sweep of ${kind}`);
  return found;
}

const isWaiting = (stage: Stage, { txid }: SweepRecord): boolean =>
  stage.world.chain.mempool.get(displayHash(txid)) !== undefined;

/** The commitment confirmed, and the HTLC's time-out is due. */
async function timedOut(stage: Stage): Promise<void> {
  while (stage.world.height < OUTBOUND_EXPIRY_HEIGHT) await mine(stage);
}

describe('the child of an anchor', () => {
  test('a commitment below the mempool’s minimum goes out in one package with the child that pays for it', async () => {
    const { stage } = await closing({ feerate: 'spiking' }, 2_000);
    const child = sweepOf(stage, 'anchor');
    expect(isWaiting(stage, child)).toBe(true);
    const [parent] = child.parents.map((raw) => storeRawTx(raw));
    const { mempool } = stage.world.chain;
    const entry = mempool.get(parent?.txid ?? '');
    expect(entry).toBeDefined();
    const group = mempool.withAncestors([displayHash(child.txid)]);
    expect((Number(mempool.feesOf(group)) * 250) / mempool.vsizeOf(group)).toBeGreaterThanOrEqual(
      child.feerateSatPerKw - 1,
    );
    // What it spends of the wallet is set apart, and its change is seen at once.
    expect(child.walletInputs).toHaveLength(1);
    const balance = stage.process.wallet.getBalance({});
    await stage.process.turn();
    const { confirmedSat, unconfirmedSat, reservedSat } = await balance;
    expect(confirmedSat + unconfirmedSat + reservedSat).toBe(INITIAL_SAT + 330n - child.feeSat);
    await mine(stage);
    expect(stage.settlement?.closeType).toBe('holder');
    expect(sweepOf(stage, 'anchor').confirmedHeight).toBe(stage.world.height);
    expect(claimOf(stage, 'anchor').nextAction).toBe(
      `confirmed in block ${stage.world.height}; done when it is buried`,
    );
    await mine(stage, 99);
    expect(claimsOf(stage).some(({ kind }) => kind === 'anchor')).toBe(false);
    const listed = stage.process.wallet.listTransactions({ limit: 100 });
    await stage.process.turn();
    expect((await listed).transactions.map(({ label }) => label)).toContain('commitment fee');
  });

  test('a commitment that pays enough has none', async () => {
    const { stage } = await closing();
    stage.world.chain.feerateEstimateSatPerKvb = 1_000;
    expect(rowsOf(stage)).toEqual([]);
    expect(claimOf(stage, 'anchor').nextAction).toMatch(/^nothing: the commitment pays/);
  });
});

describe('while a funding is withheld', () => {
  /** The peer funds it. */
  const WITHHELD = { htlcs: 'identical', feerate: 'spiking' } as const;

  async function withheld(): Promise<{ readonly stage: Stage; readonly isWhole: () => Promise<boolean> }> {
    const { stage } = await opened(WITHHELD, 1_000, 'withheld');
    const balanceOf = async () => {
      const balance = stage.process.wallet.getBalance({});
      await stage.process.turn();
      return balance;
    };
    const before = await balanceOf();
    await stage.forceClose();
    /** Whether the wallet has what it had before the close, and as free. */
    const isWhole = async (): Promise<boolean> => {
      const now = await balanceOf();
      return now.confirmedSat === before.confirmedSat && now.reservedSat === before.reservedSat;
    };
    return { stage, isWhole };
  }

  test('the commitment takes no coin of the wallet; its child is made when the funding confirms', async () => {
    const { stage, isWhole } = await withheld();
    await mine(stage, 3);
    expect(stage.machine.refused.length).toBeGreaterThan(0);
    expect(rowsOf(stage)).toEqual([]);
    expect(await isWhole()).toBe(true);
    stage.world.mine([stage.scenario.fundingTx]);
    await stage.process.turn();
    expect(isWaiting(stage, sweepOf(stage, 'anchor'))).toBe(true);
  });

  test('or waits in the mempool; it is dropped, and its coin free, when the mempool forgets the funding', async () => {
    const { stage, isWhole } = await withheld();
    const { world, scenario } = stage;
    world.unmined.add(storeTx(scenario.fundingTx).txid);
    expect(world.offer(scenario.fundingTx)).toBeUndefined();
    await mine(stage);
    const child = sweepOf(stage, 'anchor');
    expect(isWaiting(stage, child)).toBe(true);
    expect(await isWhole()).toBe(false);
    world.forget(scenario.fundingTx);
    await mine(stage);
    expect(rowsOf(stage)).toEqual([]);
    expect(await isWhole()).toBe(true);
  });
});

describe('after a restart the child of the peer’s commitment', () => {
  /** It waits in the mempool with the child, and the next process begins with a source that is behind. */
  async function behind(): Promise<Stage> {
    const { stage } = await opened({ commitment: 'counterparty', feerate: 'spiking' });
    stage.world.unmined.add(storeTx(keptOf(stage)).txid);
    expect(stage.world.offer(keptOf(stage))).toBeUndefined();
    await mine(stage);
    // What its row says of the next action changes no more.
    await mine(stage);
    expect(isWaiting(stage, sweepOf(stage, 'anchor'))).toBe(true);
    const { chain } = stage.world.chain;
    const { height } = chain.tip;
    stage.machine.lies = () => ({
      getBestBlock: async () => ({ hash: chain.at(height - 1)?.hash ?? '', height: height - 1 }),
      // It has just begun, and has nothing.
      getMempoolSpends: async () => [],
    });
    return stage;
  }

  test('stays with its coin and its history while the source is behind, and goes out again', async () => {
    const stage = await behind();
    const [rows, claims] = [rowsOf(stage), claimsOf(stage)];
    stage.world.forget(keptOf(stage));
    await stage.restart();
    await stage.process.turn();
    expect([rowsOf(stage), claimsOf(stage)]).toEqual([rows, claims]);
    expect(isWaiting(stage, sweepOf(stage, 'anchor'))).toBe(true);
  });

  test('does not outlive the first look at the tip when that commitment is gone', async () => {
    const stage = await behind();
    await stage.restart();
    await stage.process.turn();
    expect(rowsOf(stage)).toHaveLength(1);
    stage.world.forget(keptOf(stage));
    delete stage.machine.lies;
    await stage.restart();
    await stage.process.turn();
    expect(rowsOf(stage)).toEqual([]);
  });
});

describe('a sweep', () => {
  test('is raised by an operator at once, never to fall again', async () => {
    const { stage } = await closing();
    await timedOut(stage);
    const before = sweepOf(stage, 'holder_htlc');
    const { outPoint } = claimOf(stage, 'holder_htlc');
    const bump = (feerateSatPerKw: number) =>
      stage.process.settlement.bumpSweep({
        txid: Buffer.from(outPoint.txid),
        outputIndex: outPoint.outputIndex,
        feerateSatPerKw,
      });
    const bumped = bump(9_000);
    await stage.process.turn();
    await bumped;
    await stage.process.turn();
    const after = sweepOf(stage, 'holder_htlc');
    expect(after.feerateSatPerKw).toBeGreaterThanOrEqual(9_000);
    expect(isWaiting(stage, after)).toBe(true);
    expect(isWaiting(stage, before)).toBe(false);
    // The same coin and the same address: a replacement costs no further ones.
    expect(after.walletInputs).toEqual(before.walletInputs);
    expect(claimOf(stage, 'holder_htlc').nextAction).toMatch(
      /raised from .* to 36 sat\/vB, to be home before block/,
    );
    const unknown = stage.process.settlement
      .bumpSweep({ txid: Buffer.alloc(32, 1), outputIndex: 0, feerateSatPerKw: 9_000 })
      .catch((error: unknown) => (error instanceof RpcError ? error.code : 'another'));
    await stage.process.turn();
    expect(await unknown).toBe('not_found');
  });

  test('waits for a signer that is away, and says so; what was signed goes out all the same', async () => {
    const { stage, signer } = await closing();
    signer.isAway = true;
    await timedOut(stage);
    expect(claimOf(stage, 'holder_htlc').nextAction).toMatch(
      /^the signer did not sign \(.*away\): tried again/,
    );
    expect(claimOf(stage, 'holder_htlc').attempts).toBe(0);
    signer.isAway = false;
    stage.machine.clock.advance(6_000);
    await stage.process.turn();
    expect(isWaiting(stage, sweepOf(stage, 'holder_htlc'))).toBe(true);
    expect(claimOf(stage, 'holder_htlc').attempts).toBe(1);
  });

  test('goes at once without a claim that the signer refuses', async () => {
    const { stage, signer } = await opened({ commitment: 'counterparty' });
    signer.refused = 'anchor';
    stage.world.mine([keptOf(stage)]);
    await stage.process.turn();
    const balance = sweepOf(stage, 'counterparty_balance');
    expect(isWaiting(stage, balance)).toBe(true);
    expect(claimOf(stage, 'anchor').sweepId).toBeUndefined();
    // Alone it is not worth a transaction.
    expect(claimOf(stage, 'anchor').nextAction).toMatch(/^waits for lower fees/);
    await mine(stage);
    expect(sweepOf(stage, 'counterparty_balance').confirmedHeight).toBe(stage.world.height);
  });

  test('of one claim that the signer refuses says so, and goes when the signer signs it', async () => {
    const { stage, signer } = await opened({ commitment: 'counterparty' });
    signer.refused = 'counterpartyBalance';
    stage.world.mine([keptOf(stage)]);
    await stage.process.turn();
    expect(claimOf(stage, 'counterparty_balance').nextAction).toMatch(
      /^the signer did not sign \(policy-channel-unregistered\): tried again/,
    );
    signer.refused = undefined;
    stage.machine.clock.advance(6_000);
    await stage.process.turn();
    expect(isWaiting(stage, sweepOf(stage, 'counterparty_balance'))).toBe(true);
  });

  test('is taken apart at once when one of its outputs is pinned: the others are claimed in the next block', async () => {
    const { stage } = await opened({ commitment: 'counterparty', htlcs: 'identical' });
    const { world, scenario } = stage;
    world.mine([keptOf(stage)]);
    await stage.process.turn();
    await timedOut(stage);
    const whole = sweepOf(stage, 'counterparty_htlc');
    expect(whole.claims).toHaveLength(3);
    expect(isWaiting(stage, whole)).toBe(true);
    const [pinned, ...others] = htlcOutputs(scenario.built).filter(
      ({ htlc }) => htlc.direction === 'inbound',
    );
    if (scenario.kept === undefined || pinned === undefined) throw new InternalError('nothing to pin');
    const pin = scenario.counterparty.secondStage(scenario.kept, pinned, preimageOf(1), {
      coin: world.freshCoin(),
      feeSat: 400_000n,
    });
    expect(world.offer(pin)).toBeUndefined();
    expect(isWaiting(stage, whole)).toBe(false);
    stage.machine.clock.advance(BLOCK_MS);
    await stage.process.turn();
    await stage.process.turn();
    world.unmined.add(storeTx(pin).txid);
    await mine(stage);
    const keyOf = ({ outputIndex }: HtlcOutput): string =>
      `${displayHash(scenario.built.txid)}:${outputIndex}`;
    expect(others.map((one) => world.spenderOf(keyOf(one))?.height)).toEqual(others.map(() => world.height));
    expect(world.chain.mempool.spender(keyOf(pinned))).toBe(storeTx(pin).txid);
  });

  test('is stored before it is broadcast: whoever comes after a crash sends the same transaction', async () => {
    const { stage } = await closing();
    await timedOut(stage);
    const first = sweepOf(stage, 'holder_htlc');
    // The mempool forgets, as if the process had died between the two.
    const tx = decodeTx(first.transaction);
    if (!tx.ok) throw tx.error;
    stage.world.forget(tx.value);
    expect(isWaiting(stage, first)).toBe(false);
    await stage.restart();
    await stage.process.turn();
    expect(sweepOf(stage, 'holder_htlc').txid).toEqual(first.txid);
    expect(isWaiting(stage, first)).toBe(true);
  });

  test('takes another coin when somebody spent the one it had', async () => {
    const { stage } = await closing();
    await timedOut(stage);
    const first = sweepOf(stage, 'holder_htlc');
    const tx = decodeTx(first.transaction);
    if (!tx.ok) throw tx.error;
    const at = tx.value.inputs.findIndex(
      ({ txid }) => toHex(txid) === toHex(first.walletInputs[0]?.txid ?? first.txid),
    );
    const coin = tx.value.inputs[at];
    if (coin === undefined) throw new InternalError('no coin');
    // Mined by a miner to whom somebody with the same seed gave it.
    const payment = spendCoin(stage, coin);
    stage.world.chain.mineWith([payment], Uint8Array.of(0x51));
    stage.machine.clock.advance(BLOCK_MS);
    await stage.process.turn();
    const second = sweepOf(stage, 'holder_htlc');
    expect(second.walletInputs).not.toEqual(first.walletInputs);
    expect(second.feerateSatPerKw).toBeGreaterThanOrEqual(first.feerateSatPerKw);
    expect(isWaiting(stage, second)).toBe(true);
  });

  test('without hurry, of the second stage and of the balance: one transaction home, and nothing is left', async () => {
    const { stage } = await closing();
    await timedOut(stage);
    await mine(stage, 1);
    await mine(stage, TO_SELF_DELAY_BLOCKS);
    const home = sweepOf(stage, 'holder_delayed');
    expect(home.walletInputs).toEqual([]);
    await mine(stage, 100);
    expect(claimsOf(stage)).toEqual([]);
    expect(rowsOf(stage)).toEqual([]);
    const balance = stage.process.wallet.getBalance({});
    await stage.process.turn();
    expect((await balance).limboSat).toBe(0n);
  });
});

/** The counterparty's commitment that closes the channel. */
function keptOf({ scenario: { kept } }: Stage): Tx {
  if (kept === undefined) throw new InternalError('the counterparty has none');
  return kept.tx;
}

/** Spends a coin of the wallet elsewhere: the wallet's own payment, taken from its reservation before it is broadcast. */
function spendCoin(
  stage: Stage,
  coin: { readonly txid: Uint8Array; readonly vout: number },
): NonNullable<ReturnType<typeof storeRawTx>> {
  const keys = fleetKeys(secp256k1);
  const utxo = stage.machine.state.utxos.get(`${toHex(coin.txid)}:${coin.vout}`);
  const address = utxo === undefined ? undefined : stage.machine.state.addresses.get(toHex(utxo.script));
  if (utxo === undefined || address === undefined) throw new InternalError('not the wallet’s');
  const { tx, witness } = walletSpend(secp256k1, keys, utxo, address);
  const stored = storeRawTx(encodeTx(withWitness(tx, 0, witness)));
  if (stored === undefined) throw new InternalError('no transaction');
  return stored;
}
