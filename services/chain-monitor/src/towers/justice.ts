/**
 * A tower's part in a close: what a revoked commitment left, and the cheater's
 * second stages, claimed to one script by a signer that can do nothing else.
 */
import { type Tx, encodeTxWithoutWitness, withWitness } from '@fulmen/bitcoin';
import { toHex } from '@fulmen/codec';
import { encodeMonitorParameters } from '@fulmen/monitor';
import type { SignJusticeRequest } from '@fulmen/proto/tower/v1/tower';
import type { Claim } from '@fulmen/settlement';
import { type ChannelClaims, type PlannedSweep, sweepTransaction } from '@fulmen/settlement/sweep/index';
import { assembleWitness } from '@fulmen/settlement/witness';
import type { TowerInbox } from '@fulmen/store/tower/tower-store';
import type { Closing } from '../settlement/settler.ts';
import { SweepSigningError } from '../sweeper/signing.ts';
import type { SweepHome } from '../sweeper/sweeper.ts';
import type { JusticeClient } from './origin.ts';

/** Of what closed channels left, the part that a tower may and can claim. */
export function justiceOnly(channels: readonly ChannelClaims[]): readonly ChannelClaims[] {
  return channels.flatMap((channel) => {
    const claims = channel.claims.filter(isJustice);
    return claims.length === 0 ? [] : [{ ...channel, claims, commitments: [] }];
  });
}

function isJustice({ kind }: Claim): boolean {
  return kind.type === 'revoked_delayed' || kind.type === 'revoked_htlc';
}

export interface JusticePorts {
  readonly justice: Pick<JusticeClient, 'signJustice'>;
  readonly inbox: Pick<TowerInbox, 'sealedKey'>;
  readonly closing: () => ReadonlyMap<string, Closing>;
  /** The one script that the signer lets be paid. */
  readonly destinationScript: Uint8Array;
}

export function justiceHome(ports: JusticePorts): SweepHome {
  return { script: ports.destinationScript, sign: (planned, script) => sign(ports, planned, script) };
}

async function sign(ports: JusticePorts, planned: PlannedSweep, homeScript: Uint8Array): Promise<Tx> {
  const tx = sweepTransaction(planned, homeScript);
  const claims: Claim[] = [];
  const inputs: SignJusticeRequest['inputs'] = [];
  for (const input of planned.inputs) {
    if (input.type === 'coin') throw new SweepSigningError('a tower has no coins');
    const { claim, channelId } = input.claimed;
    claims.push(claim);
    inputs.push(await revokedOutput(ports, channelId, claim));
  }
  const { signatures } = await ports.justice.signJustice({
    transaction: Buffer.from(encodeTxWithoutWitness(tx)),
    inputs,
  });
  if (signatures.length !== claims.length)
    throw new SweepSigningError('the justice signer signed another number of inputs');
  return claims.reduce((signed, claim, index) => {
    const answer = signatures[index];
    if (answer === undefined) throw new SweepSigningError(`input ${index} is not signed`);
    const witness = assembleWitness(claim, {
      signature: Uint8Array.from(answer.signature),
      publicKey: Uint8Array.from(answer.publicKey),
      witnessScript: Uint8Array.from(answer.witnessScript),
    });
    return withWitness(signed, index, witness);
  }, tx);
}

async function revokedOutput(
  { inbox, closing }: JusticePorts,
  channelId: Uint8Array,
  { kind, valueSat }: Claim,
): Promise<SignJusticeRequest['inputs'][number]> {
  if (kind.type !== 'revoked_delayed' && kind.type !== 'revoked_htlc')
    throw new SweepSigningError(`a tower cannot claim ${kind.type}`);
  const monitor = closing().get(toHex(channelId))?.monitor;
  const sealedKey = await inbox.sealedKey(channelId);
  if (monitor === undefined || sealedKey === undefined)
    throw new SweepSigningError('the key of the channel is not here');
  return {
    parameters: encodeMonitorParameters(monitor.parameters),
    sealedKey,
    valueSat,
    perCommitmentSecret: kind.perCommitmentSecret,
    htlc:
      kind.type === 'revoked_htlc'
        ? {
            outbound: kind.htlc.direction === 'outbound',
            paymentHash: kind.htlc.paymentHash,
            cltvExpiryHeight: kind.htlc.cltvExpiryHeight,
          }
        : undefined,
  };
}
