/** A signer for tests: the wallet's signatures are real, from a seed; a holder commitment is whatever the test says. */
import type { Network } from '@fulmen/bitcoin';
import { type PsbtInputSignature, signPsbt } from '@fulmen/bitcoin/psbt';
import { p2trScript, p2wpkhScript } from '@fulmen/bitcoin';
import { equalBytes } from '@fulmen/codec';
import type { Secp256k1 } from '@fulmen/crypto';
import {
  channelSecrets,
  commitmentPoint,
  encodeExtendedPublic,
  hardened,
  keyTree,
  neuter,
  taprootOutputKey,
  taprootOutputSecret,
  walletSecretKey,
} from '@fulmen/keys';
import type {
  SignClaimRequest,
  SignClaimResponse,
  SignHolderCommitmentRequest,
} from '@fulmen/proto/signer/v1/signer';
import { RpcError } from '@fulmen/rpc';
import type { SignerClient } from '../ports.ts';

const CHAINS = ['receive', 'change'] as const;
const INDEXES = 40;

export interface FakeSigner extends SignerClient {
  readonly calls: {
    readonly psbts: Uint8Array[];
    readonly closes: SignHolderCommitmentRequest[];
    readonly claims: SignClaimRequest[];
  };
  /** What the next calls do. */
  answers: {
    holderCommitment: Uint8Array | undefined;
    signing: 'yes' | 'unavailable' | 'refused' | 'forbidden';
    maximumFeeSat: bigint | undefined;
    claim: ((request: SignClaimRequest) => SignClaimResponse) | undefined;
  };
}

export function fakeSigner(secp: Secp256k1, seed: Uint8Array, network: Network): FakeSigner {
  const tree = keyTree(secp, seed, network);
  const xpub = (account: typeof tree.segwitAccount): string =>
    encodeExtendedPublic(
      neuter(secp, account),
      { depth: 3, parentFingerprint: 0, childIndex: hardened(0) },
      network.coinType,
    );
  const keys = CHAINS.flatMap((chain) =>
    Array.from({ length: INDEXES }, (_, index) => {
      const segwit = walletSecretKey(secp, tree.segwitAccount, chain, index);
      const taproot = walletSecretKey(secp, tree.taprootAccount, chain, index);
      return {
        segwit,
        segwitScript: p2wpkhScript(secp.publicKeyOf(segwit)),
        taproot: taprootOutputSecret(secp, taproot),
        taprootScript: p2trScript(taprootOutputKey(secp, secp.publicKeyOf(taproot))),
      };
    }),
  );
  const signer: FakeSigner = {
    calls: { psbts: [], closes: [], claims: [] },
    answers: { holderCommitment: undefined, signing: 'yes', maximumFeeSat: undefined, claim: undefined },
    getWalletDescriptors: async () => ({
      bip84AccountXpub: xpub(tree.segwitAccount),
      bip86AccountXpub: xpub(tree.taprootAccount),
      fingerprint: '0a0b0c0d',
      maximumFeeSat: signer.answers.maximumFeeSat,
    }),
    getPerCommitmentPoints: async ({ channelKeysId, commitmentNumbers }) => {
      if (signer.answers.signing === 'unavailable') throw new RpcError('unavailable', 'not now');
      const { perCommitmentSeed } = channelSecrets(secp, tree, channelKeysId);
      return { points: commitmentNumbers.map((number) => commitmentPoint(secp, perCommitmentSeed, number)) };
    },
    signPsbt: async ({ psbt }) => {
      signer.calls.psbts.push(Uint8Array.from(psbt));
      if (signer.answers.signing === 'unavailable') throw new RpcError('unavailable', 'not now');
      if (signer.answers.signing === 'refused') throw new RpcError('failed_precondition', 'never');
      if (signer.answers.signing === 'forbidden') throw new RpcError('permission_denied', 'not this caller');
      const signed = signPsbt(
        Uint8Array.from(psbt),
        ({ inputIndex, spent, kind, sighash }): PsbtInputSignature | undefined => {
          if (kind === 'p2wpkh') {
            const key = keys.find(({ segwitScript }) => equalBytes(segwitScript, spent.script));
            return (
              key && {
                inputIndex,
                kind,
                signature: secp.sign(sighash, key.segwit),
                publicKey: secp.publicKeyOf(key.segwit),
              }
            );
          }
          const key = keys.find(({ taprootScript }) => equalBytes(taprootScript, spent.script));
          return (
            key && { inputIndex, kind, signature: secp.schnorrSign(sighash, key.taproot, new Uint8Array(32)) }
          );
        },
      );
      if (!signed.ok) throw new RpcError('invalid_argument', signed.error.message);
      return { psbt: Buffer.from(signed.value) };
    },
    signClaim: async (request) => {
      signer.calls.claims.push(request);
      const { claim, signing } = signer.answers;
      if (claim === undefined || signing === 'unavailable') throw new RpcError('unavailable', 'not now');
      return claim(request);
    },
    signHolderCommitment: async (request) => {
      signer.calls.closes.push(request);
      const transaction = signer.answers.holderCommitment;
      if (transaction === undefined) throw new RpcError('unavailable', 'not now');
      return { transaction: Buffer.from(transaction) };
    },
  };
  return signer;
}
