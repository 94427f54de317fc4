/** What a node's refusal of a transaction means for the next attempt. */

/** Bitcoin Core's words when a higher fee would please it: too little to relay, or what stands in the way pays more. */
const FEE_REFUSAL =
  /insufficient fee|fee not met|mempool full|mempool-conflict|bip125-replacement-disallowed/i;

export function isFeeRefusal(reason: string): boolean {
  return FEE_REFUSAL.test(reason);
}
