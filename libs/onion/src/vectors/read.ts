/** Reads the published vectors of BOLT 4 (JSON files beside this one) for tests. */
import { readFileSync } from 'node:fs';

/** A vector file, parsed; the caller states its shape. */
export function vectorFile<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`./${name}`, import.meta.url), 'utf8')) as T;
}
