/** What a scene consists of, and what comes out of it. */
import type { PeerMessage } from '@fulmen/channel';
import type { Message, UnknownMessage } from '@fulmen/wire';
import type { Scene } from './scene.ts';

/** A message, or bytes that are sent in the place of one. */
export type Wire = PeerMessage | Uint8Array;

/** What a fleet does about a broken rule. */
export type Reaction =
  /** Nothing is said, and all goes on. */
  | 'ignore'
  /** A warning; the connection stays. */
  | 'warning'
  /** A warning, and the connection ends; the channel stays. */
  | 'warning_disconnect'
  /** The connection ends; the channel stays. */
  | 'disconnect'
  /** An error about the channel: the opening is forgotten, or the channel closed by force. */
  | 'error'
  /** An error about another channel id; the channel stays. */
  | 'refusal'
  /** An error about the channel, which the peer is asked to close: nothing is broadcast. */
  | 'error_passive'
  /** A mutual close is agreed on. */
  | 'closed';

/** Where the act begins. */
export type Stage =
  /** The hostile peer is about to send open_channel. */
  | 'opening_by_peer'
  /** The fleet is about to send open_channel. */
  | 'opening_by_fleet'
  /** The funding is signed, and not confirmed yet. */
  | 'unconfirmed_by_peer'
  | 'unconfirmed_by_fleet'
  /** The channel is open and quiet; the hostile peer funded it. */
  | 'open_funded_by_peer'
  | 'open_funded_by_fleet';

/** A message that the hostile peer was sent. */
export interface Heard {
  readonly type: string;
  /** Of an error or a warning. */
  readonly text: string;
  readonly message: Message | UnknownMessage;
}

/** What happens in a scene. */
export interface Play {
  readonly stage: Stage;
  /** The act leaves the channel as it found it: others of the kind may follow in the same scene. */
  readonly shares?: 'its_stage';
  /** Before anybody connects. */
  readonly prepare?: (scene: Scene) => void;
  readonly act: (scene: Scene) => Promise<void> | void;
}

export interface Outcome {
  readonly reaction: Reaction;
  /** Types, with the text of errors and warnings. */
  readonly heard: readonly string[];
  readonly scene: Scene;
}
