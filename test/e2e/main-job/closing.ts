// What both stories of closed channels need: who is in a channel, how it closed, and that nothing is left to do.
import { toHex } from '@fulmen/codec';
import type { Channel } from '@fulmen/proto/manager/v1/manager';
import type { ClosedChannel, HeldHtlc } from './balance-sheet.ts';
import { type ChainTransaction, spenderInMempool } from './chain-transactions.ts';
import { ensure, StepFailed, until } from './waiting.ts';
import { type Party, sat, type World } from './world.ts';

const display = (txid: Uint8Array): string => toHex(Uint8Array.from(txid).reverse());

/** A channel as it was when it was closed. */
export type Closing = Omit<ClosedChannel, 'closingTxid'> & { readonly fundingVout: number };

export function closingOf(
  channel: Channel,
  how: ClosedChannel['how'],
  wallet: 'alice' | 'bob',
  htlcs: readonly HeldHtlc[],
): Closing {
  const { capacitySat, holderBalanceMsat, counterpartyBalanceMsat } = channel;
  ensure(
    holderBalanceMsat + counterpartyBalanceMsat === capacitySat * 1000n,
    `the balances of the channel with ${wallet} are not its capacity`,
  );
  // An HTLC belongs to who offered it until it is settled.
  const offeredMsat = (party: Party): bigint =>
    htlcs.filter(({ offeredBy }) => offeredBy === party).reduce((sum, one) => sum + one.amountMsat, 0n);
  const funder: Party = channel.holderIsFunder ? 'fleet' : wallet;
  return {
    how,
    funder,
    wallet,
    fundingTxid: display(channel.fundingTxid),
    fundingVout: channel.fundingOutputIndex,
    fleetMsat: holderBalanceMsat - offeredMsat('fleet'),
    walletMsat: counterpartyBalanceMsat - offeredMsat(wallet),
    htlcs,
  };
}

/** Waits until a transaction that spends the channel's funding output is in the mempool. */
export async function closingInMempool(world: World, closing: Closing): Promise<string> {
  return await until(`a closing transaction of the channel with ${closing.wallet} in the mempool`, () =>
    spenderInMempool(world, { txid: closing.fundingTxid, vout: closing.fundingVout }),
  );
}

/** The closed channel, once the chain has its closing transaction. */
export function closedBy(
  closing: Closing,
  transactions: ReadonlyMap<string, ChainTransaction>,
): ClosedChannel {
  for (const [closingTxid, { inputs }] of transactions)
    if (inputs.some(({ txid, vout }) => txid === closing.fundingTxid && vout === closing.fundingVout))
      return { ...closing, closingTxid };
  throw new StepFailed(`the channel with ${closing.wallet} was not closed on the chain`);
}

/** Mines until `check` gives a value. */
export async function mineUntil<T>(
  world: World,
  what: string,
  check: () => Promise<T | undefined>,
  limits: { readonly blocks: number; readonly step: number },
): Promise<T> {
  for (let mined = 0; mined <= limits.blocks; mined += limits.step) {
    const value = await check();
    if (value !== undefined) return value;
    await world.mine(limits.step);
  }
  throw new StepFailed(`${what} did not happen within ${limits.blocks} blocks`);
}

/** Tells what the closed channels wait for, as `fulmen channels list --closing` would. */
export async function tellClosing(world: World): Promise<void> {
  const { channels } = await world.node.channels.listClosingChannels(
    { includeResolved: false, limit: 0 },
    world.node.auth(),
  );
  for (const { closeType, closingHeight, stage, outputs } of channels) {
    if (stage === 'unconfirmed') continue;
    world.report.say(
      `a channel closed by the ${closeType} commitment in block ${closingHeight}; its outputs:`,
    );
    for (const { kind, valueSat, status, waitsFor, untilHeight } of outputs) {
      const until = untilHeight === undefined ? '' : `, until block ${untilHeight}`;
      const waits = waitsFor === '' ? '' : `: waits for ${waitsFor}${until}`;
      world.report.say(`  ${kind.padEnd(28)} ${sat(valueSat).padStart(14)}  ${status}${waits}`);
    }
  }
}

/**
 * True once the fleet has nothing closing, nothing to sweep and nothing in limbo, the wallets have nothing to claim, and
 * no transaction waits for a block.
 */
export async function nothingPending(world: World): Promise<boolean> {
  const { node } = world;
  const [{ channels }, { sweeps }, balance, ...wallets] = await Promise.all([
    node.channels.listClosingChannels({ includeResolved: false, limit: 0 }, node.auth()),
    node.onchain.listSweeps({}, node.auth()),
    node.onchain.getBalance({}, node.auth()),
    world.alice.call('balances'),
    world.bob.call('balances'),
  ]);
  const waiting = channels.length + sweeps.length + balance.limbo.length;
  if (waiting > 0 || wallets.some(({ claimable }) => claimable.length > 0)) return false;
  return (await world.mempool()).length === 0;
}

/** The types of the fleet's unresolved closes, once there are this many. */
export async function closeTypes(world: World, count: number): Promise<readonly string[] | undefined> {
  const { channels } = await world.node.channels.listClosingChannels(
    { includeResolved: false, limit: 0 },
    world.node.auth(),
  );
  const closed = channels.filter(({ stage }) => stage === 'closed');
  return closed.length >= count ? closed.map(({ closeType }) => closeType) : undefined;
}
