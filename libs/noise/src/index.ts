/** BOLT 8: the encrypted and authenticated transport between nodes. */
export type { HandshakeError, TransportError } from './errors.ts';
export { NoiseError } from './errors.ts';
export {
  ACT_ONE_LENGTH,
  ACT_THREE_LENGTH,
  ACT_TWO_LENGTH,
  initiatorMakeActOne,
  initiatorMakeActThree,
  initiatorReadActTwo,
  responderMakeActTwo,
  responderReadActOne,
  responderReadActThree,
} from './handshake.ts';
export type {
  InitiatorAwaitsActTwo,
  InitiatorNeedsEcdh,
  ResponderAwaitsActThree,
  ResponderNeedsEcdh,
  SessionKeys,
} from './handshake.ts';
export { initiator, responder } from './driver.ts';
export type { InitiatorStep, ResponderStep } from './driver.ts';
export { LENGTH_HEADER_LENGTH, MAX_MESSAGE_LENGTH, Transport } from './transport.ts';
