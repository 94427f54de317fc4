/** The router's configuration. */
import { NETWORKS, type NetworkName } from '@fulmen/bitcoin';
import { type TlsFiles, tlsFiles } from '@fulmen/rpc';
import { address, integer, list, readConfig } from '@fulmen/service';
import { z } from 'zod';

/** What the router needs to know before it starts. */
export interface RouterConfig {
  /** Unique among the replicas; names the lease's owner. */
  readonly replicaId: string;
  /** Genesis hash, wire order, of the chain whose gossip is kept. */
  readonly chainHash: Uint8Array;
  /** Address under which other replicas reach this one; absent: the address it listens on. */
  readonly advertisedAddress: string | undefined;
  /** This node's id (33 bytes); absent: learnt from its own node_announcement. */
  readonly ownNodeId: Uint8Array | undefined;
  readonly chainAddress: string;
  /** How long a writer's lease lasts without renewal. */
  readonly leaseMs: number;
  /** Pause between two relays of what was accepted meanwhile. */
  readonly relayMs: number;
}

/** What a process needs beside it. */
export interface RouterProcessConfig {
  readonly router: RouterConfig;
  readonly listenAddress: string;
  readonly databaseUrl: string;
  readonly durability: 'single' | 'high_availability';
  readonly natsServers: readonly string[];
  /** Paths of PEM files; absent: plaintext. */
  readonly tls: TlsFiles | undefined;
}

const NODE_ID = /^0[23][0-9a-f]{64}$/;

const schema = z.object({
  FULMEN_REPLICA_ID: z.string().min(1).max(60).default('router'),
  FULMEN_NETWORK: z.string().refine((name) => Object.hasOwn(NETWORKS, name), 'is not a network'),
  FULMEN_LISTEN_ADDRESS: address.default('127.0.0.1:0'),
  FULMEN_ADVERTISED_ADDRESS: address.optional(),
  FULMEN_DATABASE_URL: z.string().min(1),
  FULMEN_DURABILITY: z.enum(['single', 'high_availability']).default('single'),
  FULMEN_NATS_SERVERS: list.default([]),
  FULMEN_CHAIN_MONITOR_ADDRESS: address,
  FULMEN_NODE_ID: z.string().regex(NODE_ID, 'must be 33 bytes in hex').optional(),
  FULMEN_LEASE_MS: integer(1_000, 120_000).default(10_000),
  /**
   * BOLT 7: "SHOULD flush outgoing gossip messages once every 60 seconds, independently of the
   * arrival times of the messages."
   */
  FULMEN_GOSSIP_RELAY_MS: integer(100, 600_000).default(60_000),
  FULMEN_TLS_CA_FILE: z.string().optional(),
  FULMEN_TLS_CERTIFICATE_FILE: z.string().optional(),
  FULMEN_TLS_KEY_FILE: z.string().optional(),
});

/** Reads the environment; throws ConfigError. */
export function readRouterConfig(
  environment: Readonly<Record<string, string | undefined>>,
): RouterProcessConfig {
  const values = readConfig(schema, environment);
  return {
    router: {
      replicaId: values.FULMEN_REPLICA_ID,
      // The schema has checked the name.
      chainHash: NETWORKS[values.FULMEN_NETWORK as NetworkName].chainHash,
      advertisedAddress: values.FULMEN_ADVERTISED_ADDRESS,
      ownNodeId:
        values.FULMEN_NODE_ID === undefined
          ? undefined
          : Uint8Array.from(Buffer.from(values.FULMEN_NODE_ID, 'hex')),
      chainAddress: values.FULMEN_CHAIN_MONITOR_ADDRESS,
      leaseMs: values.FULMEN_LEASE_MS,
      relayMs: values.FULMEN_GOSSIP_RELAY_MS,
    },
    listenAddress: values.FULMEN_LISTEN_ADDRESS,
    databaseUrl: values.FULMEN_DATABASE_URL,
    durability: values.FULMEN_DURABILITY,
    natsServers: values.FULMEN_NATS_SERVERS,
    tls: tlsFiles(values),
  };
}
