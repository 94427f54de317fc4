export * from './transport.ts';
export {
  type CallerTable,
  type Callers,
  CALLERS,
  callersOf,
  type Denial,
  type ServiceTerms,
} from './callers.ts';
export { BoundedQueue } from './queue.ts';
export { type DeliveryGate, MemoryNetwork } from './memory.ts';
export { Certificates, type TlsFiles, tlsFiles, TlsIdentity, type TlsPems } from './certificates.ts';
export { grpcServer, type GrpcServerOptions } from './grpc-server.ts';
export { grpcConnector, type GrpcConnectorOptions } from './grpc-client.ts';
