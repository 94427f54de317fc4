/**
 * The handshake for those who hold their static secret themselves: a mobile
 * wallet, a test's peer. Each step gives the bytes to send and the next step.
 */
import { ok } from '@fulmen/codec';
import type { Result } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import type { HandshakeError } from './errors.ts';
import {
  initiatorMakeActOne,
  initiatorMakeActThree,
  initiatorReadActTwo,
  responderMakeActTwo,
  responderReadActOne,
  responderReadActThree,
} from './handshake.ts';
import type { SessionKeys } from './handshake.ts';

/** Act One is ready to be sent. */
export interface InitiatorStep {
  readonly actOne: Uint8Array;
  /** Reads the responder's 50 bytes; gives Act Three and the session's keys. */
  readonly onActTwo: (
    actTwo: Uint8Array,
  ) => Result<{ readonly actThree: Uint8Array; readonly keys: SessionKeys }, HandshakeError>;
}

/** Act Two is ready to be sent. */
export interface ResponderStep {
  readonly actTwo: Uint8Array;
  /** Reads the initiator's 66 bytes; gives its node id and the session's keys. */
  readonly onActThree: (
    actThree: Uint8Array,
  ) => Result<{ readonly counterpartyStaticKey: Uint8Array; readonly keys: SessionKeys }, HandshakeError>;
}

/** Begins a handshake towards a node of known id. The ephemeral secret is fresh randomness. */
export function initiator(
  secp: Secp256k1,
  secrets: {
    readonly staticSecret: Uint8Array;
    readonly ephemeralSecret: Uint8Array;
    readonly counterpartyStaticKey: Uint8Array;
  },
): Result<InitiatorStep, HandshakeError> {
  const begun = initiatorMakeActOne(secp, secrets);
  if (!begun.ok) return begun;
  return ok({
    actOne: begun.value.act,
    onActTwo(actTwo) {
      const read = initiatorReadActTwo(secp, begun.value.state, actTwo);
      if (!read.ok) return read;
      const { act, keys } = initiatorMakeActThree(read.value, {
        holderStaticKey: secp.publicKeyOf(secrets.staticSecret),
        ecdhWithStatic: secp.ecdh(read.value.ecdhPoint, secrets.staticSecret),
      });
      return ok({ actThree: act, keys });
    },
  });
}

/** Answers an initiator's 50 bytes of Act One. The ephemeral secret is fresh randomness. */
export function responder(
  secp: Secp256k1,
  secrets: { readonly staticSecret: Uint8Array; readonly ephemeralSecret: Uint8Array },
  actOne: Uint8Array,
): Result<ResponderStep, HandshakeError> {
  const read = responderReadActOne(secp, secp.publicKeyOf(secrets.staticSecret), actOne);
  if (!read.ok) return read;
  const made = responderMakeActTwo(secp, read.value, {
    ephemeralSecret: secrets.ephemeralSecret,
    ecdhWithStatic: secp.ecdh(read.value.ecdhPoint, secrets.staticSecret),
  });
  if (!made.ok) return made;
  return ok({
    actTwo: made.value.act,
    onActThree: (actThree) => responderReadActThree(secp, made.value.state, actThree),
  });
}
