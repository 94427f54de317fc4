/** The matrix of cases and peers, for the terminal and for the documentation. */
import type { Outcome } from './case.ts';
import type { PlayedRun } from './play.ts';

export interface Row {
  readonly group: string;
  readonly name: string;
  /** By column: a peer, or a pair of them. */
  readonly cells: ReadonlyMap<string, Outcome>;
}

/** One row for each case, in the order of the runs. */
export function rowsOf(runs: readonly PlayedRun[]): readonly Row[] {
  const cells = new Map<string, { group: string; name: string; cells: Map<string, Outcome> }>();
  for (const { one, column, outcome } of runs) {
    const { group, name } = one;
    const row = cells.get(`${group}: ${name}`) ?? { group, name, cells: new Map<string, Outcome>() };
    row.cells.set(column, outcome);
    cells.set(`${group}: ${name}`, row);
  }
  return [...cells.values()];
}

export function count(rows: readonly Row[], type: Outcome['type']): number {
  return rows.flatMap(({ cells }) => [...cells.values()]).filter((outcome) => outcome.type === type).length;
}

function columnsOf(rows: readonly Row[]): readonly string[] {
  return [...new Set(rows.flatMap(({ cells }) => [...cells.keys()]))];
}

function cellText(outcome: Outcome | undefined): string {
  return outcome === undefined ? '' : outcome.type;
}

/** Lines of fixed width. */
export function table(rows: readonly Row[]): string {
  const columns = columnsOf(rows);
  const width = Math.max(...rows.map(({ group, name }) => `${group}: ${name}`.length));
  const line = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(width)}  ${cells.map((cell, at) => cell.padEnd(columns[at]?.length ?? 0)).join('  ')}`.trimEnd();
  return [
    line('', columns),
    ...rows.map(({ group, name, cells }) =>
      line(
        `${group}: ${name}`,
        columns.map((column) => cellText(cells.get(column))),
      ),
    ),
  ].join('\n');
}

/** The page of the documentation: what `interop-notes.md` says of differences stands above it. */
export function markdown(rows: readonly Row[], versions: readonly string[], seconds: number): string {
  const columns = columnsOf(rows);
  const reasons = rows.flatMap(({ group, name, cells }) =>
    [...cells].flatMap(([column, outcome]) =>
      outcome.type === 'ok' ? [] : [`- ${group}: ${name}, ${column}: ${outcome.type}: ${outcome.reason}`],
    ),
  );
  return [
    '# Interoperability',
    '',
    'Printed by `npm run interop -- all --write`, which runs every case against each peer on a real bitcoind; the fleet',
    'has two channel-managers and two gateways, and is driven through its public API alone.',
    '',
    `Versions: ${versions.join(', ')}. ${rows.length} cases in ${seconds} s.`,
    '',
    `| case | ${columns.join(' | ')} |`,
    `|---|${columns.map(() => '---').join('|')}|`,
    ...rows.map(
      ({ group, name, cells }) =>
        `| ${group}: ${name} | ${columns.map((column) => cellText(cells.get(column))).join(' | ')} |`,
    ),
    '',
    ...(reasons.length === 0 ? [] : ['What is not `ok`:', '', ...reasons, '']),
  ].join('\n');
}
