/** OnChainService: the wallet, and what comes home to it from closed channels. */
import type { OnChainServiceService } from '@fulmen/proto/node/v1/node';
import type { Handlers } from '@fulmen/rpc';
import { refuse } from '../errors.ts';
import { idempotencyKey, requireBytes, requireLength, requirePositive } from '../validate.ts';
import { command, type ConsoleContext, query } from './context.ts';

const ADDRESS_TYPES = ['', 'p2wpkh', 'p2tr'];
/** BIP 173: a bech32 string has at most 90 characters. */
const MAX_ADDRESS_LENGTH = 90;

export function onChainService({
  guard,
  managers,
  wallet,
  settlement,
  runtime,
}: ConsoleContext): Handlers<typeof OnChainServiceService> {
  return {
    newAddress: guard.unary(
      {
        name: 'OnChainService.NewAddress',
        scope: 'wallet',
        audit: (_request, response) => ({ address: response?.address }),
      },
      async ({ addressType }, call) => {
        if (!ADDRESS_TYPES.includes(addressType))
          throw refuse('invalid_argument', 'address_type must be "p2wpkh" or "p2tr".');
        const { address } = await wallet.run(
          (client, options) => client.newAddress({ addressType }, options),
          command(call),
        );
        return { address };
      },
    ),
    getBalance: guard.unary({ name: 'OnChainService.GetBalance', scope: 'read' }, async (_request, call) => {
      const [balance, { channels }] = await Promise.all([
        wallet.run((client, options) => client.getBalance({}, options), query(call)),
        managers.run(
          (client, options) => client.listChannels({ includeClosed: false }, options),
          query(call),
        ),
      ]);
      return {
        confirmedSat: balance.confirmedSat,
        unconfirmedSat: balance.unconfirmedSat,
        reservedSat: balance.reservedSat,
        channelsHolderMsat: channels.reduce((sum, { holderBalanceMsat }) => sum + holderBalanceMsat, 0n),
        limboSat: balance.limboSat,
        limbo: balance.limbo,
      };
    }),
    sendCoins: guard.unary(
      {
        name: 'OnChainService.SendCoins',
        scope: 'wallet',
        audit: ({ address, valueSat, feerateSatPerKw, idempotencyKey: key }, response) => ({
          address,
          valueSat,
          feerateSatPerKw,
          key,
          txid: response?.txid,
        }),
      },
      (request, call) => {
        if (request.address === '') throw refuse('invalid_argument', 'address is missing.');
        requireLength('address', request.address, MAX_ADDRESS_LENGTH);
        requirePositive('value_sat', request.valueSat);
        const keyed = {
          ...request,
          idempotencyKey: idempotencyKey(request.idempotencyKey, runtime.randomBytes),
        };
        return wallet.run((client, options) => client.sendCoins(keyed, options), command(call));
      },
    ),
    exportDescriptors: guard.unary(
      { name: 'OnChainService.ExportDescriptors', scope: 'wallet', audit: () => ({}) },
      (request, call) =>
        wallet.run((client, options) => client.exportDescriptors(request, options), query(call)),
    ),
    listSweeps: guard.unary({ name: 'OnChainService.ListSweeps', scope: 'read' }, (request, call) =>
      settlement.run((client, options) => client.listSweeps(request, options), query(call)),
    ),
    bumpSweep: guard.unary(
      {
        name: 'OnChainService.BumpSweep',
        scope: 'wallet',
        audit: ({ txid, outputIndex, feerateSatPerKw }) => ({ txid, outputIndex, feerateSatPerKw }),
      },
      (request, call) => {
        requireBytes('txid', request.txid, 32);
        requirePositive('feerate_sat_per_kw', BigInt(request.feerateSatPerKw));
        return settlement.run((client, options) => client.bumpSweep(request, options), command(call));
      },
    ),
  };
}
