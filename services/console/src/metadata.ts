/** Names of the metadata that the console and its clients agree on, beside the contract in node.proto. */

/** On every error that the console itself answered: what comes without it was said by the network in between. */
export const ANSWERED_BY = 'fulmen-answered-by';
/** Of a subscription: "false" ends the stream at the end of the log. */
export const FOLLOW = 'fulmen-follow';
