/** Signs claims as the signer service does, and builds the transactions that a sweeper would; each is run through an independent interpreter. */
import { SIGHASH, p2pkhScript, segwitV0Sighash, withWitness } from '@fulmen/bitcoin';
import type { Tx, TxOutput } from '@fulmen/bitcoin';
import { commitmentKeysOf, otherParty } from '@fulmen/channel/commitment/build';
import { htlcSide } from '@fulmen/channel/commitment/fees';
import { commitmentFormat } from '@fulmen/channel/commitment/format';
import { commitmentParametersOfMonitor } from '@fulmen/channel/commitment/from-monitor';
import { anchorScript } from '@fulmen/channel/commitment/scripts/anchor';
import { toLocalScript } from '@fulmen/channel/commitment/scripts/to-local';
import type { CommitmentOwner } from '@fulmen/channel/commitment/types';
import { runInput } from '@fulmen/channel/commitment/testing/interpreter';
import { InternalError, assertNever } from '@fulmen/codec';
import { hash160 } from '@fulmen/crypto';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { derivePrivateKey, deriveRevocationPrivateKey } from '@fulmen/keys';
import type { MonitorHtlc } from '@fulmen/monitor';
import type { Claim, Settlement } from '../types.ts';
import { assembleWitness } from '../witness.ts';
import type { ClaimAnswer } from '../witness.ts';
import { homeScript } from './test-channel.ts';
import type { Side, TestChannel } from './test-channel.ts';

/** Every output that can be claimed now. */
export function claimableOf({ outputs }: Settlement): Claim[] {
  return outputs.flatMap(({ status }) => (status.type === 'claimable' ? [status.claim] : []));
}

/** What the signer of `side` answers to a claim, which spends its output by this input. */
export function answerClaim(
  channel: TestChannel,
  side: Side,
  { kind, valueSat }: Claim,
  spending: { readonly tx: Tx; readonly inputIndex: number },
): ClaimAnswer {
  const parameters = commitmentParametersOfMonitor(channel.parameters(side));
  const secrets = channel.secrets(side);
  const format = commitmentFormat(parameters.commitmentFormat);
  const delayed = (owner: CommitmentOwner, perCommitmentPoint: Uint8Array): Uint8Array => {
    const keys = commitmentKeysOf(secp, { parameters, owner, perCommitmentPoint });
    return toLocalScript({
      revocationPubkey: keys.revocationPubkey,
      delayedPubkey: keys.broadcasterDelayedPubkey,
      delayBlocks: parameters[otherParty(owner)].toSelfDelayBlocks,
    });
  };
  const htlcScript = (
    owner: CommitmentOwner,
    perCommitmentPoint: Uint8Array,
    htlc: MonitorHtlc,
  ): Uint8Array => {
    const keys = commitmentKeysOf(secp, { parameters, owner, perCommitmentPoint });
    return htlcSide(owner, htlc.direction) === 'offered'
      ? format.offeredHtlcScript(keys, htlc.paymentHash)
      : format.receivedHtlcScript(keys, htlc);
  };
  const spent = (): { readonly secret: Uint8Array; readonly witnessScript: Uint8Array | undefined } => {
    switch (kind.type) {
      case 'holder_delayed': {
        const point = channel.perCommitmentPoint(side, kind.commitmentNumber);
        return {
          secret: derivePrivateKey(secp, secrets.delayed, point),
          witnessScript: delayed('holder', point),
        };
      }
      case 'holder_htlc': {
        const point = channel.perCommitmentPoint(side, kind.commitmentNumber);
        return {
          secret: derivePrivateKey(secp, secrets.htlc, point),
          witnessScript: htlcScript('holder', point, kind.htlc),
        };
      }
      case 'counterparty_htlc': {
        const point = kind.perCommitmentPoint;
        return {
          secret: derivePrivateKey(secp, secrets.htlc, point),
          witnessScript: htlcScript('counterparty', point, kind.htlc),
        };
      }
      case 'counterparty_balance':
        return {
          secret: secrets.payment,
          witnessScript: format.toRemote(parameters.holder.paymentBasepoint).witnessScript,
        };
      case 'revoked_delayed':
      case 'revoked_htlc': {
        const point = secp.publicKeyOf(kind.perCommitmentSecret);
        return {
          secret: deriveRevocationPrivateKey(secp, secrets.revocation, kind.perCommitmentSecret),
          witnessScript:
            kind.type === 'revoked_delayed'
              ? delayed('counterparty', point)
              : htlcScript('counterparty', point, kind.htlc),
        };
      }
      case 'anchor':
        return {
          secret: secrets.funding,
          witnessScript: anchorScript(secp.publicKeyOf(secrets.funding)),
        };
      default:
        return assertNever(kind);
    }
  };
  const { secret, witnessScript } = spent();
  const publicKey = secp.publicKeyOf(secret);
  const scriptCode = witnessScript ?? p2pkhScript(hash160(publicKey));
  const sighash = segwitV0Sighash(spending.tx, spending.inputIndex, scriptCode, valueSat, SIGHASH.ALL);
  return { signature: secp.sign(sighash, secret), publicKey, witnessScript };
}

/** One transaction that claims all of these, without a fee; second stages are paired with their outputs. */
export function claimTransaction(channel: TestChannel, side: Side, claims: readonly Claim[]): Tx {
  const isPaired = ({ kind }: Claim): boolean => kind.type === 'holder_htlc';
  const ordered = [...claims.filter(isPaired), ...claims.filter((claim) => !isPaired(claim))];
  const paired = ordered.flatMap(({ kind }) => (kind.type === 'holder_htlc' ? [kind.output] : []));
  const locktimes = new Set(claims.filter(isPaired).map(({ locktimeHeight }) => locktimeHeight));
  const locktime = Math.max(0, ...claims.map(({ locktimeHeight }) => locktimeHeight));
  if (locktimes.size > 1 || (locktimes.size === 1 && !locktimes.has(locktime)))
    throw new InternalError('second stages of several locktimes in one transaction');
  const homeSat = ordered.reduce((sum, claim) => sum + (isPaired(claim) ? 0n : claim.valueSat), 0n);
  const home: TxOutput[] = homeSat === 0n ? [] : [{ valueSat: homeSat, script: homeScript(side) }];
  const unsigned: Tx = {
    version: 2,
    locktime,
    inputs: ordered.map(({ outPoint, sequence }) => ({
      txid: outPoint.txid,
      vout: outPoint.outputIndex,
      scriptSig: new Uint8Array(0),
      sequence,
      witness: [],
    })),
    outputs: [...paired, ...home],
  };
  const signed = ordered.reduce((tx, claim, inputIndex) => {
    const answer = answerClaim(channel, side, claim, { tx: unsigned, inputIndex });
    return withWitness(tx, inputIndex, assembleWitness(claim, answer));
  }, unsigned);
  for (const [index, claim] of ordered.entries()) {
    const verdict = runInput(signed, index, claim);
    if (verdict !== 'ok') throw new InternalError(`claim of ${claim.kind.type}: ${verdict}`);
  }
  return signed;
}

/** A transaction for each output that can be claimed now. */
export function claimTransactions(channel: TestChannel, side: Side, settlement: Settlement): Tx[] {
  return claimableOf(settlement).map((claim) => claimTransaction(channel, side, [claim]));
}
