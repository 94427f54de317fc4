// Strings from peers (aliases, error texts, hostnames) are attackers' text: printed raw they forge log
// lines, hide words or move the cursor of a terminal.

// Control (Cc), format incl. bidi (Cf), surrogates (Cs), private use (Co), unassigned (Cn), line and
// paragraph separators (Zl, Zp).
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** Replaces every control, bidi, format and line-separating character, and cuts at `maxLength` characters. */
export function sanitizeForLog(text: string, maxLength = 1024): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(UNPRINTABLE, '\ufffd');
}

/**
 * The text of an error or warning. BOLT 1: "if data is not composed solely of printable ASCII characters …
 * SHOULD NOT print out data verbatim"; bytes outside 32 to 126 become "?".
 */
export function printableData(data: Uint8Array, maxLength = 1024): string {
  let out = '';
  for (const byte of data.subarray(0, maxLength))
    out += byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '?';
  return data.length > maxLength ? `${out}…` : out;
}
