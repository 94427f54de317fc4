/** What this node offers: in init, and in its node_announcement. */
import { FeatureBits } from '@fulmen/codec';

/** Only what is built: a feature that is offered and missing costs channels. BOLT 9 has each of them for both messages. */
export const HOLDER_FEATURES: FeatureBits = FeatureBits.of({
  data_loss_protect: 'required',
  upfront_shutdown_script: 'optional',
  gossip_queries: 'optional',
  var_onion_optin: 'required',
  static_remotekey: 'required',
  payment_secret: 'required',
  basic_mpp: 'optional',
  support_large_channel: 'optional',
  anchors: 'optional',
  shutdown_anysegwit: 'optional',
  provide_storage: 'optional',
  channel_type: 'optional',
  scid_alias: 'optional',
  zeroconf: 'optional',
});
