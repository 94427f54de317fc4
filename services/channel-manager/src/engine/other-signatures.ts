/** Signatures that a message may need beside its step's one call to the signer: of mutual closes and announcements. */
import { patiently } from '../signing/patiently.ts';
import type { OtherSignatures } from '../signing/sign-item.ts';
import type { ChannelActor } from './channel-actor.ts';
import { announcementSignatures } from './own-gossip.ts';
import type { EnginePorts, NodeView } from './ports.ts';

export function otherSignatures(ports: EnginePorts, node: NodeView, actor: ChannelActor): OtherSignatures {
  const { signer, runtime } = ports;
  return {
    closing: async ({ closing }) => {
      const request = {
        channelKeysId: actor.channelKeysId,
        shard: actor.fence.shard,
        epoch: actor.fence.epoch,
        toHolderSat: closing.toHolderSat,
        toCounterpartySat: closing.toCounterpartySat,
        holderScript: closing.holderScript,
        counterpartyScript: closing.counterpartyScript,
        feeSat: closing.feeSat,
      };
      const { signature } = await patiently(
        runtime,
        () => actor.stopped,
        () => signer.signClosing(request),
      );
      return signature;
    },
    announcement: ({ shortChannelId }) => announcementSignatures(ports, node, actor, shortChannelId),
  };
}
