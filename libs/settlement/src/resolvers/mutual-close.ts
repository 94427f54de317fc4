/**
 * A mutual close. BOLT 5: "a node need not do anything else, as it has already agreed to the output, which is sent to its
 * specified `scriptpubkey`." No HTLC was pending when it was signed.
 */
import type { Resolution } from '../scope.ts';

export const MUTUAL_CLOSE: Resolution = {
  outputs: [],
  ends: new Map(),
  trimmed: new Set(),
  content: 'known',
  alsoWatched: [],
};
