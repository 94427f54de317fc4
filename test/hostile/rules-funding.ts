/** BOLT 2, from "funding_created" to "channel_ready", as the receiver of each message. */
import { primaryFunding } from '@fulmen/channel';
import type { Rule } from './rule.ts';
import { SecondChannel } from './second-channel.ts';

const CREATED = 'The `funding_created` Message';

export const FUNDING_RULES: readonly Rule[] = [
  ...(['its own', "another peer's"] as const).map((whose): Rule => ({
    name: `funding_created: the outpoint of ${whose} channel`,
    section: CREATED,
    sentence: 'x',
    stage: 'open_funded_by_peer',
    act: async (scene) => {
      const { channel } = whose === 'its own' ? scene.hostile : scene.honest;
      if (channel === undefined) return;
      const { fundingTxid, fundingOutputIndex } = primaryFunding(channel);
      await new SecondChannel(scene, 'second').fund(fundingTxid, fundingOutputIndex);
      await scene.pause(500);
      await scene.payThrough(20_000_000n);
    },
    reaction: 'refusal',
  })),
];
