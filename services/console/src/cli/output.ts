/** Tables for people, JSON for programs. */
import { hex, printable, txid } from './format.ts';

export type OutputFormat = 'table' | 'json';

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly align?: 'right';
}

/** Aligned columns under a line of titles; `empty` when there are no rows. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[], empty: string): string {
  if (rows.length === 0) return `${empty}\n`;
  const cells = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ value }) => printable(value(row)))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => widthOf(line[index] ?? ''))));
  const render = (line: readonly string[]): string =>
    line
      .map((cell, index) => pad(cell, widths[index] ?? 0, columns[index]?.align))
      .join('  ')
      .trimEnd();
  return `${cells.map(render).join('\n')}\n`;
}

/** Names and values, one a line; pairs without a value are left out. */
export function card(pairs: readonly (readonly [string, string])[]): string {
  const shown = pairs.filter(([, value]) => value !== '');
  const width = Math.max(...shown.map(([name]) => name.length));
  return `${shown.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`).join('\n')}\n`;
}

/** Code points, which is right for all but wide and combining characters. */
const widthOf = (text: string): number => Array.from(text).length;

function pad(text: string, width: number, align: 'right' | undefined): string {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)));
  return align === 'right' ? space + text : text + space;
}

/**
 * A message as JSON can carry it: names in snake case, 64-bit numbers as
 * strings, bytes as hex, transaction ids in the order explorers print; absent
 * values are null.
 */
export function toJson(value: unknown, name = ''): unknown {
  if (value === undefined || value === null) return null;
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return /(^t|_t|T)xid$/.test(name) ? txid(value) : hex(value);
  if (Array.isArray(value)) return value.map((item) => toJson(item, name));
  if (typeof value === 'object')
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [snake(key), toJson(item, key)]));
  return value;
}

export function json(value: unknown): string {
  return `${JSON.stringify(toJson(value), undefined, 2)}\n`;
}

/** fundingTxid → funding_txid */
function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
