/**
 * Transactions in the mempool that spend what is claimed and are not the
 * sweeper's: whose they are, and what they pay. Of a rival whose inputs are not
 * all in the chain the fee stays unknown; the node's refusal is the guide then.
 */
import { type Tx, decodeTx, displayHash, parseDisplayHash, txVsize } from '@fulmen/bitcoin';
import type { ChainSource } from '@fulmen/chain';
import { equalBytes } from '@fulmen/codec';
import type { Claim } from '@fulmen/settlement';
import { type Rival, claimantOf, outPointKeyOf } from '@fulmen/settlement/sweep/index';

/** Outpoints asked about at once. */
const MAX_OUTPOINTS = 2_000;
/** Rivals whose fee is worked out, and inputs of one. */
const MAX_OFFERS = 50;
const MAX_OFFER_INPUTS = 50;

type Source = Pick<ChainSource, 'getMempoolSpends' | 'getMempoolTransaction' | 'getUtxo'>;

/** Both by `outPointKeyOf` of the claim. */
export interface Contests {
  readonly rivals: ReadonlyMap<string, Rival>;
  /** Txids of transactions that make the claim with the holder's own keys. */
  readonly allied: ReadonlyMap<string, Uint8Array>;
}

/** @throws ChainSourceError */
export async function findContests(
  source: Source,
  claims: readonly Claim[],
  isOurs: (txid: Uint8Array) => boolean,
): Promise<Contests> {
  const rivals = new Map<string, Rival>();
  const allied = new Map<string, Uint8Array>();
  const asked = new Map(
    claims.slice(0, MAX_OUTPOINTS).map((claim) => [outPointKeyOf(claim.outPoint), claim]),
  );
  if (asked.size === 0) return { rivals, allied };
  const spends = await source.getMempoolSpends(
    [...asked.values()].map(({ outPoint }) => ({
      txid: displayHash(outPoint.txid),
      vout: outPoint.outputIndex,
    })),
  );
  const bySpender = new Map<string, Claim[]>();
  for (const { txid, vout, spendingTxid } of spends) {
    const claim = asked.get(outPointKeyOf({ txid: parseDisplayHash(txid), outputIndex: vout }));
    if (claim === undefined || isOurs(parseDisplayHash(spendingTxid))) continue;
    bySpender.set(spendingTxid, [...(bySpender.get(spendingTxid) ?? []), claim]);
  }
  let offers = 0;
  for (const [spendingTxid, spent] of bySpender) {
    const txid = parseDisplayHash(spendingTxid);
    const tx = await transactionOf(source, spendingTxid);
    const contested = spent.filter((claim) => tx === undefined || !isHolders(tx, claim));
    for (const claim of spent)
      if (!contested.includes(claim)) allied.set(outPointKeyOf(claim.outPoint), txid);
    if (contested.length === 0) continue;
    const offer = tx === undefined || offers++ >= MAX_OFFERS ? undefined : await offerOf(source, tx, asked);
    for (const claim of contested) rivals.set(outPointKeyOf(claim.outPoint), { txid, offer });
  }
  return { rivals, allied };
}

async function transactionOf(source: Source, txid: string): Promise<Tx | undefined> {
  const raw = await source.getMempoolTransaction(txid);
  const tx = raw === undefined ? undefined : decodeTx(raw);
  return tx?.ok === true ? tx.value : undefined;
}

function isHolders(tx: Tx, claim: Claim): boolean {
  const inputIndex = tx.inputs.findIndex(
    ({ txid, vout }) => vout === claim.outPoint.outputIndex && equalBytes(txid, claim.outPoint.txid),
  );
  return inputIndex >= 0 && claimantOf({ tx, inputIndex }, claim) === 'holder';
}

async function offerOf(source: Source, tx: Tx, claims: ReadonlyMap<string, Claim>): Promise<Rival['offer']> {
  if (tx.inputs.length > MAX_OFFER_INPUTS) return undefined;
  let feeSat = 0n;
  for (const { txid, vout } of tx.inputs) {
    const known = claims.get(outPointKeyOf({ txid, outputIndex: vout }));
    const valueSat = known?.valueSat ?? (await source.getUtxo(displayHash(txid), vout))?.valueSat;
    if (valueSat === undefined) return undefined;
    feeSat += valueSat;
  }
  for (const { valueSat } of tx.outputs) feeSat -= valueSat;
  return feeSat < 0n ? undefined : { feeSat, vsize: txVsize(tx) };
}
