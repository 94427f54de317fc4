export * from './transport.ts';
export { BoundedQueue } from './queue.ts';
export { type DeliveryGate, MemoryNetwork } from './memory.ts';
export { grpcServer, type GrpcServerOptions, type TlsIdentity } from './grpc-server.ts';
export { grpcConnector, type GrpcConnectorOptions } from './grpc-client.ts';
