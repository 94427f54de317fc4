/** An opening in the terms of lnrpc.OpenChannelRequest. */
import type { OpeningTerms, OpenOptions } from './peer.ts';

type Json = Readonly<Record<string, unknown>>;

export function openRequest(options: OpenOptions): Json {
  return {
    node_pubkey: Buffer.from(options.nodeId, 'hex').toString('base64'),
    local_funding_amount: String(options.fundingSat),
    push_sat: String((options.pushMsat ?? 0n) / 1_000n),
    private: options.announce !== 'announced',
    spend_unconfirmed: true,
    // Without it LND pays 50 sat/vB, and teaches bitcoind that.
    sat_per_vbyte: '2',
    commitment_type: options.format === 'static_remotekey' ? 'STATIC_REMOTE_KEY' : 'ANCHORS',
    ...(options.closeAddress !== undefined && { close_address: options.closeAddress }),
    scid_alias: options.scidAlias === 'scid_alias',
    zero_conf: options.confirmations === 'zero_conf',
    ...termsOf(options.terms ?? {}),
  };
}

function termsOf(terms: OpeningTerms): Json {
  const { toSelfDelayBlocks, reserveSat, htlcMinimumMsat, maxAcceptedHtlcs } = terms;
  return {
    ...(toSelfDelayBlocks !== undefined && { remote_csv_delay: toSelfDelayBlocks }),
    ...(reserveSat !== undefined && { remote_chan_reserve_sat: String(reserveSat) }),
    ...(htlcMinimumMsat !== undefined && { min_htlc_msat: String(htlcMinimumMsat) }),
    ...(maxAcceptedHtlcs !== undefined && { remote_max_htlcs: maxAcceptedHtlcs }),
  };
}
