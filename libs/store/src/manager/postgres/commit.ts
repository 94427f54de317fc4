/**
 * The group commit over one server-side call that takes all units or none. A
 * refusal names its unit: that one gets its verdict, and the others are sent
 * again. A refusal that names nobody (a constraint) is found by halving.
 */
import { StatementError, StoreError } from '../../error.ts';
import type { Database } from '../../pg/database.ts';
import type { CommitUnit, Verdict } from '../manager-store.ts';
import { decodeSource, hexKey, identityOf } from '../source.ts';
import { unitFault } from '../validate.ts';
import { COMMIT_STATEMENT, commitParameters } from './commit-columns.ts';

interface Entry {
  readonly unit: CommitUnit;
  readonly index: number;
  readonly key: string;
}

/**
 * @throws StoreError `unavailable` only when no unit was committed; `unknown` when one may have been
 */
export async function commitUnits(
  database: Database,
  units: readonly CommitUnit[],
): Promise<readonly Verdict[]> {
  const verdicts: Verdict[] = [];
  let waiting: Entry[] = [];
  units.forEach((unit, index) => {
    const fault = unitFault(unit);
    if (fault !== undefined) verdicts[index] = { type: 'bad_data', reason: fault };
    else
      waiting.push({
        unit,
        index,
        // A shard's answers have no row of their own to follow each other on.
        key: unit.kind + (unit.kind === 'shard' ? String(index) : hexKey(identityOf(unit))),
      });
  });
  try {
    // Two units of one channel go one after the other.
    while (waiting.length > 0) {
      const seen = new Set<string>();
      const round = waiting.filter(({ key }) => !seen.has(key) && seen.add(key));
      waiting = waiting.filter((entry) => !round.includes(entry));
      await commitRound(
        database,
        round.toSorted((a, b) => (a.key < b.key ? -1 : 1)),
        verdicts,
      );
    }
  } catch (error) {
    if (
      error instanceof StoreError &&
      error.code === 'unavailable' &&
      verdicts.some((verdict) => verdict?.type === 'committed')
    ) {
      throw new StoreError('unknown', 'some units of the group were committed', { cause: error });
    }
    throw error;
  }
  return verdicts;
}

async function commitRound(
  database: Database,
  entries: readonly Entry[],
  verdicts: Verdict[],
): Promise<void> {
  if (entries.length === 0) return;
  try {
    await database.write(COMMIT_STATEMENT, commitParameters(entries.map(({ unit }) => unit)));
  } catch (error) {
    if (!(error instanceof StatementError)) throw error;
    return afterRefusal(database, entries, verdicts, error);
  }
  for (const { index } of entries) verdicts[index] = { type: 'committed' };
}

async function afterRefusal(
  database: Database,
  entries: readonly Entry[],
  verdicts: Verdict[],
  error: StatementError,
): Promise<void> {
  const [number, ...detail] = (error.detail ?? '').split(' ');
  const culprit = error.sqlState.startsWith('FM')
    ? entries[Number(number)]
    : entries.length === 1
      ? entries[0]
      : undefined;
  if (culprit === undefined) {
    const middle = entries.length >> 1;
    await commitRound(database, entries.slice(0, middle), verdicts);
    return commitRound(database, entries.slice(middle), verdicts);
  }
  const verdict = verdictOf(error, detail);
  const { shard, epoch, replicaId } = culprit.unit.commit.fence;
  const rest = entries.filter((entry) => {
    const { fence } = entry.unit.commit;
    // A lost fence never comes back, so it is lost for every unit that holds it.
    const same =
      verdict.type === 'fence_lost' &&
      fence.shard === shard &&
      fence.epoch === epoch &&
      fence.replicaId === replicaId;
    if (entry !== culprit && !same) return true;
    verdicts[entry.index] = verdict;
    return false;
  });
  return commitRound(database, rest, verdicts);
}

function verdictOf(error: StatementError, detail: readonly string[]): Verdict {
  const bytes = new Uint8Array(Buffer.from(detail[0] ?? '', 'hex'));
  switch (error.sqlState) {
    case 'FM001':
      return { type: 'fence_lost' };
    case 'FM002':
      return { type: 'version_mismatch' };
    case 'FM003':
      return { type: 'intent_lost', source: decodeSource(bytes) };
    case 'FM004':
      return { type: 'onion_replay', channelId: bytes, htlcId: BigInt.asUintN(64, BigInt(detail[1] ?? '0')) };
    case 'FM006':
      return { type: 'resolution_changed', source: decodeSource(bytes) };
    case 'FM007':
      return { type: 'closing_decided', reason: detail.join(' ') };
    default:
      return {
        type: 'bad_data',
        reason: error.constraint === undefined ? error.message : `${error.constraint}: ${error.message}`,
      };
  }
}
