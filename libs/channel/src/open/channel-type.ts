/** BOLT 2 "Defined Channel Types": exact sets of feature bits, never negotiated down. */
import { FeatureBits, equalBytes } from '@fulmen/codec';
import type { NegotiatedFeatures } from '../context.ts';
import type { CommitmentFormatName } from '../parameters.ts';

export interface ChannelTypeMeaning {
  readonly commitmentFormat: CommitmentFormatName;
  readonly scidAlias: 'scid_alias' | 'real_scid';
  readonly confirmations: 'zero_conf' | 'confirmed';
}

const STATIC_REMOTEKEY = 12;
const ANCHORS = 22;
const SCID_ALIAS = 46;
const ZEROCONF = 50;

/** The smallest bitmap of a type. */
export function encodeChannelType(meaning: ChannelTypeMeaning): Uint8Array {
  const bits = [STATIC_REMOTEKEY];
  if (meaning.commitmentFormat === 'anchors') bits.push(ANCHORS);
  if (meaning.scidAlias === 'scid_alias') bits.push(SCID_ALIAS);
  if (meaning.confirmations === 'zero_conf') bits.push(ZEROCONF);
  return FeatureBits.fromBits(bits).encode();
}

/** What a type means; undefined for anything that is not exactly a defined one. */
export function decodeChannelType(bytes: Uint8Array): ChannelTypeMeaning | undefined {
  for (const commitmentFormat of ['static_remotekey', 'anchors'] as const) {
    for (const scidAlias of ['real_scid', 'scid_alias'] as const) {
      for (const confirmations of ['confirmed', 'zero_conf'] as const) {
        const meaning = { commitmentFormat, scidAlias, confirmations };
        if (equalBytes(encodeChannelType(meaning), bytes)) return meaning;
      }
    }
  }
  return undefined;
}

/** Whether both sides support what a type needs. */
export function isTypeNegotiated(meaning: ChannelTypeMeaning, features: NegotiatedFeatures): boolean {
  return (
    (meaning.commitmentFormat === 'static_remotekey' || features.anchors) &&
    (meaning.scidAlias === 'real_scid' || features.scidAlias) &&
    (meaning.confirmations === 'confirmed' || features.zeroConf)
  );
}
