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

/** Rows of the same columns: cases with one peer, and cases with two. */
function tablesOf(rows: readonly Row[]): readonly (readonly Row[])[] {
  const tables = new Map<string, Row[]>();
  for (const row of rows) {
    const columns = [...row.cells.keys()].join();
    tables.set(columns, [...(tables.get(columns) ?? []), row]);
  }
  return [...tables.values()];
}

function cellText(outcome: Outcome | undefined): string {
  return outcome === undefined ? '' : outcome.type;
}

/** Lines of fixed width. */
export function table(rows: readonly Row[]): string {
  return tablesOf(rows).map(textTable).join('\n\n');
}

function textTable(rows: readonly Row[]): string {
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

/** One line for each outcome that is not `ok`, and its reason. */
export function reasonsOf(rows: readonly Row[]): readonly string[] {
  return rows.flatMap(({ group, name, cells }) =>
    [...cells].flatMap(([column, outcome]) =>
      outcome.type === 'ok' ? [] : [`${group}: ${name}, ${column}: ${outcome.type}: ${outcome.reason}`],
    ),
  );
}

/**
 * The page of the documentation.
 * @param differences Markdown: where implementations and the specification differ
 */
export function markdown(
  rows: readonly Row[],
  versions: readonly string[],
  seconds: number,
  differences: string,
): string {
  const reasons = reasonsOf(rows).map((reason) => `- ${reason}`);
  return [
    '# Interoperability',
    '',
    'Written by `npm run interop -- all --write`, which plays every case with each peer on a real bitcoind; the fleet has two',
    'channel-managers and two gateways, and is driven through its public API alone. A pair is payer → payee, or near → far.',
    '',
    `Versions: ${versions.join(', ')}. ${rows.length} cases, ${rows.flatMap(({ cells }) => [...cells]).length} runs in ${seconds} s.`,
    '',
    ...tablesOf(rows).flatMap(markdownTable),
    ...(reasons.length === 0 ? [] : ['## What is not `ok`', '', ...reasons, '']),
    differences,
  ].join('\n');
}

function markdownTable(rows: readonly Row[]): readonly string[] {
  const columns = columnsOf(rows);
  return [
    `| case | ${columns.join(' | ')} |`,
    `|---|${columns.map(() => '---').join('|')}|`,
    ...rows.map(
      ({ group, name, cells }) =>
        `| ${group}: ${name} | ${columns.map((column) => cellText(cells.get(column))).join(' | ')} |`,
    ),
    '',
  ];
}
