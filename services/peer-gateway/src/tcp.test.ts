/** The gateway on its real adapters: TCP, gRPC and the clock of the process. */
import { type GatewayToManager, PeerLinkServiceService } from '@fulmen/proto/link/v1/link';
import { SignerServiceService } from '@fulmen/proto/signer/v1/signer';
import { grpcConnector, grpcServer, type Handlers } from '@fulmen/rpc';
import { Metrics, nodeRuntime, silentLogger } from '@fulmen/service';
import { TestPeer } from '@fulmen/testing/peer';
import { encodeMessage, make } from '@fulmen/wire';
import { expect, test } from 'vitest';
import { DEFAULT_LIMITS } from './limits.ts';
import { nodeSockets } from './socket/node.ts';
import { start } from './start.ts';
import { nodeIdOf, secp, secretOf } from './testing/fleet.ts';

test('a peer over TCP reaches its manager over gRPC, and the answer comes back', async () => {
  const failures: unknown[] = [];
  const runtime = nodeRuntime({ onFailure: (_task, error) => failures.push(error) });
  const signer = grpcServer({ listenAddress: '127.0.0.1:0' });
  const handlers = {
    getNode: () => Promise.resolve({ nodeId: nodeIdOf('node'), network: 'regtest', keyScheme: 'native-v1' }),
    ecdh: ({ publicKey }: { publicKey: Uint8Array }) =>
      Promise.resolve({ sharedSecret: secp.ecdh(publicKey, secretOf('node')) }),
  };
  // The real one answers certificates only.
  signer.add(SignerServiceService, handlers as unknown as Handlers<SignerServiceService>, {
    callers: { 'fulmen.signer.v1.SignerService': 'anyone' },
  });
  const manager = grpcServer({ listenAddress: '127.0.0.1:0' });
  const seen: string[] = [];
  const acknowledged = Promise.withResolvers<bigint>();
  manager.add(PeerLinkServiceService, {
    link: async (stream) => {
      const shards = Array.from({ length: 256 }, (_, shard) => ({ shard, epoch: 3n }));
      await stream.send({ body: { $case: 'hello', value: { replicaId: 'manager', shards } } });
      for await (const { body } of stream as AsyncIterable<GatewayToManager>) {
        if (body === undefined) continue;
        seen.push(body.$case);
        if (body.$case === 'peerConnected') {
          const { peerNodeId, connectionId } = body.value;
          const accepted = { peerNodeId, connectionId, generation: 9n, epoch: 3n, shard: 0 };
          await stream.send({ body: { $case: 'peerAccepted', value: accepted } });
        }
        if (body.$case === 'inbound') {
          const { peerNodeId, generation, message } = body.value;
          const value = { peerNodeId, generation, epoch: 3n, number: 1n, message };
          await stream.send({ body: { $case: 'outbound', value } });
        }
        if (body.$case === 'outboundAck') acknowledged.resolve(body.value.through);
      }
    },
  });
  const signerAddress = await signer.listen();
  const managerAddress = await manager.listen();
  const connector = grpcConnector();
  const sockets = nodeSockets();
  const gateway = await start(
    {
      gatewayId: 'gateway-0',
      network: 'regtest',
      listen: { host: '127.0.0.1', port: 0 },
      healthAddress: '127.0.0.1:0',
      managerAddresses: [managerAddress],
      signerAddress,
      routerAddress: undefined,
      limits: DEFAULT_LIMITS,
      wireLog: undefined,
    },
    {
      runtime,
      logger: silentLogger,
      metrics: new Metrics('peer-gateway'),
      sockets,
      connector,
      signerConnector: connector,
      server: grpcServer({ listenAddress: '127.0.0.1:0' }),
      secp,
    },
  );
  const port = Number(gateway.address.split(':')[1]);
  const identity = { secp, staticSecret: secretOf('alice'), ephemeralSecret: runtime.randomBytes(32) };
  const peer = await TestPeer.connect(sockets, { host: '127.0.0.1', port }, gateway.nodeId, identity);
  const init = await peer.next('init');
  expect(init.tlvs.remoteAddr?.[0]).toBe(1);
  const message = make('shutdown', { channelId: new Uint8Array(32), scriptpubkey: Uint8Array.of(1, 2, 3) });
  await peer.send(message);
  expect(encodeMessage(await peer.next('shutdown'))).toEqual(encodeMessage(message));
  expect(await acknowledged.promise).toBe(1n);
  await gateway.stop();
  await peer.closed;
  expect(seen).toEqual(['hello', 'peerConnected', 'inbound', 'outboundAck']);
  connector.close();
  await Promise.all([signer.stop(100), manager.stop(100)]);
  expect(failures).toEqual([]);
});
