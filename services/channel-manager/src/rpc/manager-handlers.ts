/** ManagerService, one file for each RPC. */
import type { ManagerServiceService } from '@fulmen/proto/manager/v1/manager';
import type { Handlers } from '@fulmen/rpc';
import { getBackup, recoverChannels, verifyBackup } from './backup.ts';
import { closeChannel } from './close-channel.ts';
import { connectPeer } from './connect-peer.ts';
import { createInvoice } from './create-invoice.ts';
import type { ManagerDeps } from './deps.ts';
import { disconnectPeer } from './disconnect-peer.ts';
import { getInfo } from './get-info.ts';
import { listChannels } from './list-channels.ts';
import { listForwards } from './list-forwards.ts';
import { listInvoices } from './list-invoices.ts';
import { listPayments } from './list-payments.ts';
import { listPeers } from './list-peers.ts';
import { lookupInvoice } from './lookup-invoice.ts';
import { lookupPayment } from './lookup-payment.ts';
import { openChannel, type OpeningsUnderWay } from './open-channel.ts';
import { sendKeysend, sendPayment } from './send-payment.ts';
import { storeErrors } from './store-errors.ts';
import { trustPeer } from './trust-peer.ts';
import { updateChannelPolicy } from './update-channel-policy.ts';

/** The handlers of a replica. */
export function managerHandlers(deps: ManagerDeps): Handlers<ManagerServiceService> {
  const openings: OpeningsUnderWay = new Map();
  return {
    getInfo: () => storeErrors(() => getInfo(deps)),
    connectPeer: (request) => storeErrors(() => connectPeer(deps, request)),
    disconnectPeer: (request) => storeErrors(() => disconnectPeer(deps, request)),
    trustPeer: (request) => storeErrors(() => trustPeer(deps, request)),
    listPeers: () => storeErrors(() => listPeers(deps)),
    openChannel: (request) => storeErrors(() => openChannel(deps, openings, request)),
    closeChannel: (request) => storeErrors(() => closeChannel(deps, request)),
    listChannels: (request) => storeErrors(() => listChannels(deps, request)),
    updateChannelPolicy: (request) => storeErrors(() => updateChannelPolicy(deps, request)),
    createInvoice: (request) => storeErrors(() => createInvoice(deps, request)),
    lookupInvoice: (request) => storeErrors(() => lookupInvoice(deps, request)),
    listInvoices: (request) => storeErrors(() => listInvoices(deps, request)),
    sendPayment: (request, context) => storeErrors(() => sendPayment(deps, request, context)),
    sendKeysend: (request, context) => storeErrors(() => sendKeysend(deps, request, context)),
    lookupPayment: (request) => storeErrors(() => lookupPayment(deps, request)),
    listPayments: (request) => storeErrors(() => listPayments(deps, request)),
    listForwards: (request) => storeErrors(() => listForwards(deps, request)),
    getBackup: () => storeErrors(() => getBackup(deps)),
    verifyBackup: (request) => storeErrors(() => verifyBackup(deps, request)),
    recoverChannels: (request) => storeErrors(() => recoverChannels(deps, request)),
  };
}
