import { toHex } from '@fulmen/codec';
import type { HtlcSource } from '@fulmen/store';

/** The identity of an HTLC's source as a map key. */
export function sourceKey(source: HtlcSource): string {
  return source.type === 'htlc'
    ? `h${toHex(source.channelId)}:${source.htlcId}`
    : `p${toHex(source.attemptId)}`;
}
