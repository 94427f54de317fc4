/**
 * A signer for tests, with real keys. It believes nobody and enforces what a
 * signer must: it never signs a state that could be revoked already, never
 * releases the secret of a commitment whose successor it did not validate, and
 * answers an identical retry identically. A violation throws.
 */
import { InternalError, equalBytes, utf8Encode, concatBytes } from '@fulmen/codec';
import { sha256 } from '@fulmen/crypto';
import type { Secp256k1 } from '@fulmen/crypto';
import { commitmentPoint, commitmentSecret, derivePrivateKey } from '@fulmen/keys';
import { buildCommitment } from '../commitment/build.ts';
import { buildClosingTransaction } from '../commitment/closing.ts';
import { signCommitment, verifyCommitmentSignatures } from '../commitment/sign.ts';
import type { CommitmentSignatures } from '../commitment/types.ts';
import type { CommitmentSpec } from '../commitment-spec.ts';
import type { ClosingSpec, SignerWork } from '../effect.ts';
import type { HolderKeys } from '../open/terms.ts';
import type { SignerProgress } from '../signer-work.ts';
import type { ChannelParameters } from '../parameters.ts';
import type { Funding } from '../state.ts';

/** What the signer knows of the channel by registration. */
export interface Registration {
  readonly parameters: ChannelParameters;
  readonly funding: Pick<
    Funding,
    | 'fundingTxid'
    | 'fundingOutputIndex'
    | 'fundingValueSat'
    | 'holderFundingPubkey'
    | 'counterpartyFundingPubkey'
  >;
}

export type TestSecrets = Readonly<
  Record<'funding' | 'revocation' | 'payment' | 'delayed' | 'htlc' | 'seed', Uint8Array>
>;

/** The secrets of the test signer of this name. */
export function testSecrets(name: string): TestSecrets {
  const secret = (label: string) => sha256(concatBytes(utf8Encode(name), utf8Encode(label)));
  return {
    funding: secret('funding'),
    revocation: secret('revocation'),
    payment: secret('payment'),
    delayed: secret('delayed'),
    htlc: secret('htlc'),
    seed: secret('seed'),
  };
}

export class TestSigner {
  readonly secp: Secp256k1;
  readonly #secrets: TestSecrets;
  #validated = 0n;
  #revocations = 0n;
  #lastSigned: { readonly number: bigint; readonly fingerprint: string } | undefined;
  #locked: 'open' | 'closing' = 'open';

  constructor(secp: Secp256k1, name: string) {
    this.secp = secp;
    this.#secrets = testSecrets(name);
  }

  get progress(): SignerProgress {
    return { holderCommitmentNumber: this.#validated, counterpartyRevocations: this.#revocations };
  }

  keys(): HolderKeys {
    const point = (secret: Uint8Array) => this.secp.publicKeyOf(secret);
    return {
      channelKeysId: sha256(this.#secrets.seed),
      fundingPubkey: point(this.#secrets.funding),
      revocationBasepoint: point(this.#secrets.revocation),
      paymentBasepoint: point(this.#secrets.payment),
      delayedPaymentBasepoint: point(this.#secrets.delayed),
      htlcBasepoint: point(this.#secrets.htlc),
    };
  }

  point(number: bigint): Uint8Array {
    return commitmentPoint(this.secp, this.#secrets.seed, number);
  }

  /** The counterparty's secrets and the new holder commitment, before anything else of the call. */
  work(registration: Registration, work: SignerWork): void {
    for (const { commitmentNumber } of work.counterpartyRevocations) {
      if (commitmentNumber !== this.#revocations)
        throw new InternalError(`secret ${commitmentNumber} instead of ${this.#revocations}`);
      this.#revocations += 1n;
    }
    if (work.holderCommitment === undefined) return;
    const { spec, signatures } = work.holderCommitment;
    if (spec.commitmentNumber !== this.#validated + 1n)
      throw new InternalError(`holder commitment ${spec.commitmentNumber} after ${this.#validated}`);
    if (this.#locked === 'closing') throw new InternalError('a holder commitment after the close');
    const [signed] = signatures;
    const built = buildCommitment(this.secp, {
      ...registration,
      owner: 'holder',
      spec,
      perCommitmentPoint: this.point(spec.commitmentNumber),
    });
    if (signed === undefined || !verifyCommitmentSignatures(this.secp, built, signed).ok)
      throw new InternalError('unsigned holder commitment');
    this.#validated += 1n;
  }

  release(revokedNumber: bigint): {
    readonly perCommitmentSecret: Uint8Array;
    readonly nextPerCommitmentPoint: Uint8Array;
  } {
    if (this.#locked === 'closing')
      throw new InternalError('policy-revoke: the holder commitment was signed for broadcast');
    if (revokedNumber >= this.#validated)
      throw new InternalError(
        `policy-revoke-new-commitment-signed: ${revokedNumber} with ${this.#validated} validated`,
      );
    return {
      perCommitmentSecret: commitmentSecret(this.#secrets.seed, revokedNumber),
      nextPerCommitmentPoint: this.point(revokedNumber + 2n),
    };
  }

  signCounterparty(
    registration: Registration,
    spec: CommitmentSpec,
    point: Uint8Array,
  ): CommitmentSignatures {
    const { commitmentNumber } = spec;
    const fingerprint = `${JSON.stringify(spec, (_, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))}${Buffer.from(point).toString('hex')}`;
    const last = this.#lastSigned;
    if (last?.number === commitmentNumber && last.fingerprint !== fingerprint)
      throw new InternalError(`another commitment ${commitmentNumber} than signed before`);
    if (commitmentNumber < this.#revocations)
      throw new InternalError('policy-commitment: the state is revoked');
    if (commitmentNumber > this.#revocations + 1n)
      throw new InternalError('policy-commitment: the previous state is not revoked');
    if (last !== undefined && commitmentNumber !== last.number && commitmentNumber !== last.number + 1n)
      throw new InternalError('policy-commitment: a gap');
    this.#lastSigned = { number: commitmentNumber, fingerprint };
    const built = buildCommitment(this.secp, {
      ...registration,
      owner: 'counterparty',
      spec,
      perCommitmentPoint: point,
    });
    return signCommitment(this.secp, built, {
      fundingSecret: this.#secrets.funding,
      htlcSecret: derivePrivateKey(this.secp, this.#secrets.htlc, point),
    });
  }

  /** The holder's own signature on its commitment, for broadcast. */
  signHolder(registration: Registration, spec: CommitmentSpec, mode: 'lock' | 'dry_run'): Uint8Array {
    if (spec.commitmentNumber !== this.#validated)
      throw new InternalError(`broadcast of ${spec.commitmentNumber} with ${this.#validated} validated`);
    if (mode === 'lock') this.#locked = 'closing';
    const built = buildCommitment(this.secp, {
      ...registration,
      owner: 'holder',
      spec,
      perCommitmentPoint: this.point(spec.commitmentNumber),
    });
    return this.secp.sign(built.sighash, this.#secrets.funding);
  }

  signClosing(registration: Registration, closing: ClosingSpec): Uint8Array {
    const built = buildClosingTransaction({
      funding: registration.funding,
      closing,
      dustLimitSat: registration.parameters.holder.dustLimitSat,
    });
    if (!built.ok) throw new InternalError(`no closing transaction: ${built.error.type}`);
    return this.secp.sign(built.value.sighash, this.#secrets.funding);
  }

  ownsPoint(number: bigint, point: Uint8Array): boolean {
    return equalBytes(this.point(number), point);
  }
}
