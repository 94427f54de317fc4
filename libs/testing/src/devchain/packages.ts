/**
 * Packages: several transactions judged together, and a child that pays for
 * its parents. Follows Bitcoin Core: each transaction on its own first, and
 * by their common feerate only what could not pay for itself.
 */
import { displayHash } from '@fulmen/bitcoin';
import type { ChainState } from './chain-state.ts';
import type { Candidate, Mempool } from './mempool.ts';
import type { StoredTx } from './model.ts';
import { Rejection, coinKey } from './model.ts';

/** Verdict on one transaction of a package. */
export interface TransactionVerdict {
  readonly stored: StoredTx;
  /** Undefined when accepted. */
  readonly rejection: Rejection | undefined;
  /** It was in the mempool before. */
  readonly known: boolean;
  readonly feeSat: bigint | undefined;
  /** Transactions whose fees counted together for the feerate: ids of the witness kind. */
  readonly paidWith: readonly string[];
  /** sat per 1000 vbytes, over `paidWith`. */
  readonly effectiveFeerate: number;
}

/** Verdict on a package. */
export interface PackageVerdict {
  /** `success`, `transaction failed`, or why the package as such is refused. */
  readonly message: string;
  readonly verdicts: readonly TransactionVerdict[];
  /** Txids that were replaced. */
  readonly replaced: readonly string[];
}

const MAX_PACKAGE_COUNT = 25;
const MAX_PACKAGE_WEIGHT = 404_000;
/** True for one transaction, or parents that do not depend on each other followed by their child. */
export function isChildWithParents(transactions: readonly StoredTx[]): boolean {
  const child = transactions.at(-1);
  if (child === undefined) return false;
  const parentsOf = ({ tx }: StoredTx): Set<string> =>
    new Set(tx.inputs.map(({ txid }) => displayHash(txid)));
  const wanted = parentsOf(child);
  const parents = transactions.slice(0, -1);
  return parents.every(
    (parent) => wanted.has(parent.txid) && parents.every(({ txid }) => !parentsOf(parent).has(txid)),
  );
}

/** Judges packages for one mempool; `commit` adds what was judged well and returns what it replaced. */
export class Packages {
  readonly #chain: ChainState;
  readonly #mempool: Mempool;
  readonly #commit: (candidates: readonly Candidate[]) => readonly StoredTx[];

  constructor(
    chain: ChainState,
    mempool: Mempool,
    commit: (candidates: readonly Candidate[]) => readonly StoredTx[],
  ) {
    this.#chain = chain;
    this.#mempool = mempool;
    this.#commit = commit;
  }

  /** Judges a package without adding anything (`testmempoolaccept`). */
  test(transactions: readonly StoredTx[]): PackageVerdict {
    const [only] = transactions;
    if (transactions.length === 1 && only !== undefined) {
      try {
        return this.#verdict('success', [this.#accepted(this.#mempool.judge(only))]);
      } catch (error) {
        return this.#verdict('transaction failed', [this.#rejected(only, error)]);
      }
    }
    const malformed = this.#malformedPackage(transactions);
    if (malformed !== undefined)
      return this.#verdict(
        malformed,
        transactions.map((stored) => this.#rejected(stored, new Rejection(malformed))),
      );
    const earlier = new Map<string, Candidate>();
    const verdicts: TransactionVerdict[] = [];
    for (const stored of transactions) {
      try {
        const candidate = this.#mempool.judge(stored, { earlier });
        // A package that is only tested may not replace anything.
        if (candidate.conflicts.size > 0) throw new Rejection('bip125-replacement-disallowed');
        earlier.set(stored.txid, candidate);
        verdicts.push(this.#accepted(candidate));
      } catch (error) {
        return this.#verdict('transaction failed', [...verdicts, this.#rejected(stored, error)]);
      }
    }
    return this.#verdict('success', verdicts);
  }

  #verdict(
    message: string,
    verdicts: readonly TransactionVerdict[],
    replaced: readonly string[] = [],
  ): PackageVerdict {
    return { message, verdicts, replaced };
  }

  #accepted(candidate: Candidate, group: readonly Candidate[] = [candidate]): TransactionVerdict {
    const { stored, feeSat } = candidate;
    const fees = group.reduce((sum, other) => sum + other.feeSat, 0n);
    const vsize = group.reduce((sum, other) => sum + other.stored.vsize, 0);
    const paidWith = group.map((other) => other.stored.wtxid);
    return {
      stored,
      rejection: undefined,
      known: false,
      feeSat,
      paidWith,
      effectiveFeerate: Math.floor((Number(fees) * 1000) / vsize),
    };
  }

  #rejected(stored: StoredTx, error: unknown): TransactionVerdict {
    if (!(error instanceof Rejection)) throw error;
    return { stored, rejection: error, known: false, feeSat: undefined, paidWith: [], effectiveFeerate: 0 };
  }

  #malformedPackage(transactions: readonly StoredTx[]): string | undefined {
    if (transactions.length > MAX_PACKAGE_COUNT) return 'package-too-many-transactions';
    if (
      transactions.reduce((sum, { weight }) => sum + weight, 0) > MAX_PACKAGE_WEIGHT &&
      transactions.length > 1
    )
      return 'package-too-large';
    const ids = new Set(transactions.map(({ txid }) => txid));
    if (ids.size !== transactions.length) return 'package-contains-duplicates';
    const seen = new Set<string>();
    const spent = new Set<string>();
    for (const { tx, txid } of transactions) {
      for (const input of tx.inputs) {
        const parent = displayHash(input.txid);
        if (ids.has(parent) && !seen.has(parent)) return 'package-not-sorted';
      }
      seen.add(txid);
    }
    for (const { tx } of transactions) {
      const keys = tx.inputs.map((input) => coinKey(displayHash(input.txid), input.vout));
      if (keys.some((key) => spent.has(key))) return 'conflict-in-package';
      for (const key of keys) spent.add(key);
    }
    return undefined;
  }

  /** Submits a child with its unconfirmed parents (`submitpackage`). */
  submit(transactions: readonly StoredTx[]): PackageVerdict {
    const topology = isChildWithParents(transactions) ? undefined : 'package-not-child-with-parents';
    const malformed = topology ?? this.#malformedPackage(transactions) ?? this.#missingParents(transactions);
    if (malformed !== undefined)
      return this.#verdict(
        malformed,
        transactions.map((stored) => this.#rejected(stored, new Rejection('package-not-validated'))),
      );
    const verdicts = new Map<string, TransactionVerdict>();
    const replaced: string[] = [];
    const pending: StoredTx[] = [];
    let failed = false;
    for (const stored of transactions) {
      const same = this.#mempool.get(stored.txid);
      if (same !== undefined) {
        verdicts.set(stored.txid, {
          ...this.#accepted({
            ...same,
            coins: [],
            conflicts: new Set(),
            evicted: new Set(),
            evictsSibling: false,
          }),
          known: true,
        });
        continue;
      }
      // While an earlier one waits for its child to pay, the child cannot stand alone.
      if (pending.length > 0 && this.#dependsOn(stored, pending)) {
        pending.push(stored);
        continue;
      }
      try {
        const candidate = this.#mempool.judge(stored);
        replaced.push(...this.#commit([candidate]).map(({ txid }) => txid));
        verdicts.set(stored.txid, this.#accepted(candidate));
      } catch (error) {
        verdicts.set(stored.txid, this.#rejected(stored, error));
        const reason = error instanceof Rejection ? error.reason : '';
        if (
          reason === 'min relay fee not met' ||
          reason.startsWith('insufficient fee') ||
          reason === 'missing-ephemeral-spends'
        )
          pending.push(stored);
        else failed = true;
      }
    }
    if (pending.length > 0 && !failed) {
      const group = this.#submitGroup(pending);
      for (const verdict of group.verdicts) verdicts.set(verdict.stored.txid, verdict);
      replaced.push(...group.replaced);
    }
    const all = transactions.map(
      (stored) =>
        verdicts.get(stored.txid) ?? this.#rejected(stored, new Rejection('bad-txns-inputs-missingorspent')),
    );
    return this.#verdict(
      all.every(({ rejection }) => rejection === undefined) ? 'success' : 'transaction failed',
      all,
      replaced,
    );
  }

  #dependsOn(stored: StoredTx, others: readonly StoredTx[]): boolean {
    const ids = new Set(others.map(({ txid }) => txid));
    return stored.tx.inputs.some(({ txid }) => ids.has(displayHash(txid)));
  }

  /** Parents may also be missing: then the child is judged by what is known and refused for its inputs. */
  #missingParents(transactions: readonly StoredTx[]): string | undefined {
    const child = transactions.at(-1);
    if (child === undefined) return 'package-empty';
    const given = new Set(transactions.map(({ txid }) => txid));
    const complete = child.tx.inputs.every(({ txid, vout }) => {
      const id = displayHash(txid);
      return (
        given.has(id) ||
        this.#mempool.get(id) !== undefined ||
        this.#chain.coin(coinKey(id, vout)) !== undefined
      );
    });
    return complete || transactions.length === 1 ? undefined : 'package-not-child-with-unconfirmed-parents';
  }

  /** Parents too poor for themselves, and the child that pays for them: judged by their common feerate. */
  #submitGroup(group: readonly StoredTx[]): {
    verdicts: readonly TransactionVerdict[];
    replaced: readonly string[];
  } {
    const earlier = new Map<string, Candidate>();
    for (const stored of group) {
      try {
        earlier.set(stored.txid, this.#mempool.judge(stored, { earlier, packageFeerate: true }));
      } catch (error) {
        return { verdicts: [this.#rejected(stored, error)], replaced: [] };
      }
    }
    const candidates = [...earlier.values()];
    try {
      const fees = candidates.reduce((sum, { feeSat }) => sum + feeSat, 0n);
      this.#mempool.checkFeerate(
        fees,
        candidates.reduce((sum, { stored }) => sum + stored.vsize, 0),
      );
      this.#mempool.checkReplacement(candidates);
      this.#mempool.checkEphemeral(candidates);
    } catch (error) {
      return { verdicts: candidates.map(({ stored }) => this.#rejected(stored, error)), replaced: [] };
    }
    const replaced = this.#commit(candidates).map(({ txid }) => txid);
    return { verdicts: candidates.map((candidate) => this.#accepted(candidate, candidates)), replaced };
  }
}
