// What the wallet asks of its counterparties at an opening, and what it takes from them.
import { ldk } from './ldk.ts';
import type { Handshake } from './protocol.ts';

const MAX_FUNDING_SAT = 10n ** 12n;
const MINIMUM_DEPTH = 3;

/**
 * LDK's defaults, with what a test wallet wants: anchors as asked, private channels that may be of any
 * size and filled to the brim, three confirmations. The getters give copies, so each is set back.
 */
export function userConfig(
  wish: Handshake & { readonly anchors: boolean; readonly announced?: boolean },
): ldk.UserConfig {
  const config = ldk.UserConfig.constructor_default();
  const handshake = config.get_channel_handshake_config();
  handshake.set_minimum_depth(wish.minimumDepth ?? MINIMUM_DEPTH);
  handshake.set_negotiate_anchors_zero_fee_htlc_tx(wish.anchors);
  handshake.set_announce_for_forwarding(wish.announced ?? false);
  handshake.set_max_inbound_htlc_value_in_flight_percent_of_channel(100);
  handshake.set_negotiate_scid_privacy(wish.scidAlias ?? false);
  if (wish.toSelfDelayBlocks !== undefined) handshake.set_our_to_self_delay(wish.toSelfDelayBlocks);
  if (wish.htlcMinimumMsat !== undefined) handshake.set_our_htlc_minimum_msat(wish.htlcMinimumMsat);
  if (wish.maxAcceptedHtlcs !== undefined) handshake.set_our_max_accepted_htlcs(wish.maxAcceptedHtlcs);
  if (wish.reserveMillionths !== undefined)
    handshake.set_their_channel_reserve_proportional_millionths(wish.reserveMillionths);
  config.set_channel_handshake_config(handshake);
  const limits = config.get_channel_handshake_limits();
  if (wish.minFundingSat !== undefined) limits.set_min_funding_satoshis(BigInt(wish.minFundingSat));
  limits.set_max_funding_satoshis(
    wish.maxFundingSat === undefined ? MAX_FUNDING_SAT : BigInt(wish.maxFundingSat),
  );
  limits.set_force_announced_channel_preference(false);
  config.set_channel_handshake_limits(limits);
  config.set_manually_accept_inbound_channels(true);
  config.set_accept_forwards_to_priv_channels(true);
  return config;
}
