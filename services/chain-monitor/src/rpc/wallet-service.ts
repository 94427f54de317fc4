/** WalletService: the node's on-chain wallet. */
import { FEERATE_FLOOR_SAT_PER_KW } from '@fulmen/bitcoin';
import type { WalletServiceService } from '@fulmen/proto/chain/v1/chain';
import { type Handlers, RpcError } from '@fulmen/rpc';
import type { LimboOutput } from '../settlement/limbo.ts';
import type { Wallet } from '../wallet/wallet.ts';
import { answer } from './errors.ts';

const MAX_LISTED = 1000;
const MAX_KEY_LENGTH = 256;

export function walletHandlers(
  wallet: Wallet,
  leaderAddress: () => string | undefined,
  maximumFeerateSatPerKw: number,
  limbo: () => Promise<readonly LimboOutput[]>,
): Handlers<WalletServiceService> {
  const feerateOf = (feerateSatPerKw: number | undefined): number | undefined => {
    if (
      feerateSatPerKw === undefined ||
      (feerateSatPerKw >= FEERATE_FLOOR_SAT_PER_KW && feerateSatPerKw <= maximumFeerateSatPerKw)
    )
      return feerateSatPerKw;
    throw new RpcError(
      'invalid_argument',
      `a feerate is between ${FEERATE_FLOOR_SAT_PER_KW} and ${maximumFeerateSatPerKw} sat per 1000 weight`,
    );
  };
  return {
    newAddress: ({ addressType }) =>
      answer(async () => {
        if (addressType !== '' && addressType !== 'p2wpkh' && addressType !== 'p2tr')
          throw new RpcError('invalid_argument', 'p2wpkh or p2tr');
        const { address, script } = await wallet.newAddress(addressType === 'p2tr' ? 'p2tr' : 'p2wpkh');
        return { address, scriptPubkey: Buffer.from(script) };
      }, leaderAddress),
    getBalance: () =>
      answer(async () => {
        const [balance, waiting] = await Promise.all([wallet.balance(), limbo()]);
        const limboSat = waiting.reduce((sum, { valueSat }) => sum + valueSat, 0n);
        const soonestFirst = [...waiting].sort((a, b) => a.maturityHeight - b.maturityHeight);
        return {
          ...balance,
          limboSat,
          limbo: soonestFirst.slice(0, MAX_LISTED).map(({ channelId, valueSat, maturityHeight }) => ({
            channelId: Buffer.from(channelId),
            valueSat,
            maturityHeight,
          })),
        };
      }, leaderAddress),
    getAnchorReserve: () => answer(() => wallet.anchorReserve(), leaderAddress),
    fundChannel: ({ channelKeysId, scriptPubkey, valueSat, feerateSatPerKw }, { signal }) =>
      answer(async () => {
        if (channelKeysId.length !== 32)
          throw new RpcError('invalid_argument', 'a channel keys id has 32 bytes');
        const paid = await wallet.fundChannel({
          channelKeysId: Uint8Array.from(channelKeysId),
          script: Uint8Array.from(scriptPubkey),
          valueSat,
          feerateSatPerKw: feerateOf(feerateSatPerKw),
          signal,
        });
        return {
          transaction: Buffer.from(paid.transaction),
          txid: Buffer.from(paid.txid),
          outputIndex: paid.outputIndex,
          feeSat: paid.feeSat,
        };
      }, leaderAddress),
    releaseFunding: ({ channelKeysId }) =>
      answer(async () => {
        await wallet.releaseFunding(Uint8Array.from(channelKeysId));
        return {};
      }, leaderAddress),
    sendCoins: ({ address, valueSat, feerateSatPerKw, idempotencyKey }) =>
      answer(async () => {
        if (idempotencyKey.length > MAX_KEY_LENGTH)
          throw new RpcError(
            'invalid_argument',
            `an idempotency key has at most ${MAX_KEY_LENGTH} characters`,
          );
        const { txid, feeSat } = await wallet.sendCoins({
          address,
          valueSat,
          feerateSatPerKw: feerateOf(feerateSatPerKw),
          idempotencyKey,
        });
        return { txid: Buffer.from(txid), feeSat };
      }, leaderAddress),
    exportDescriptors: () =>
      answer(async () => {
        const descriptors = await wallet.exportDescriptors();
        return {
          descriptors: descriptors.map(({ descriptor, kind, chain, nextIndex, lastIndex }) => ({
            descriptor,
            addressType: kind,
            internal: chain === 'change',
            nextIndex,
            lastIndex,
          })),
        };
      }, leaderAddress),
    listTransactions: ({ limit }) =>
      answer(async () => {
        const listed = await wallet.listTransactions(Math.min(limit === 0 ? 100 : limit, MAX_LISTED));
        return {
          transactions: listed.map(({ txid, amountSat, feeSat, height, label }) => ({
            txid: Buffer.from(txid),
            amountSat,
            feeSat,
            confirmedHeight: height,
            label,
          })),
        };
      }, leaderAddress),
  };
}
