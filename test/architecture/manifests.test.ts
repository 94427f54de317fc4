// Holds what the Kubernetes manifests must not get wrong: they are run by nobody here.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { DEFAULT_LIMITS, PEER_MEMORY_BYTES } from '@fulmen/peer-gateway/limits';
import { expect, test } from 'vitest';
import { FLEET } from '../../deploy/certificates/make-certificates.ts';

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..', 'deploy', 'k8s');

interface Manifest {
  readonly kind: string;
  readonly name: string;
  readonly text: string;
}

/** The documents of every file. Their layout is the formatter's: a key of the first level stands at the line's start. */
const manifests: readonly Manifest[] = fs
  .readdirSync(folder)
  .filter((file) => file.endsWith('.yaml'))
  .flatMap((file) => fs.readFileSync(path.join(folder, file), 'utf8').split(/^---$/m))
  .map((text) => ({
    kind: /^kind: (\S+)$/m.exec(text)?.[1] ?? '',
    name: /^metadata:\n {2}name: (\S+)$/m.exec(text)?.[1] ?? '',
    text,
  }));

const namesOf = (wanted: (manifest: Manifest) => boolean): string[] =>
  manifests.filter(wanted).map(({ name }) => name);
const isStateful = ({ kind }: Manifest): boolean => kind === 'StatefulSet';

test('every service is a workload', () => {
  const workloads = namesOf((one) => isStateful(one) || one.kind === 'Deployment');
  expect(workloads.toSorted()).toEqual(
    ['chain-monitor', 'channel-manager', 'console', 'peer-gateway', 'router', 'signer'].toSorted(),
  );
});

test('only what keeps a volume is a StatefulSet, whose pods of a lost machine nobody replaces', () => {
  expect(namesOf((one) => isStateful(one) && !/^ {2}volumeClaimTemplates:$/m.test(one.text))).toEqual([]);
});

test('replicas of a StatefulSet start without each other', () => {
  const replicas = ({ text }: Manifest): number => Number(/^ {2}replicas: (\d+)$/m.exec(text)?.[1] ?? 1);
  const isParallel = ({ text }: Manifest): boolean => /^ {2}podManagementPolicy: Parallel$/m.test(text);
  expect(namesOf((one) => isStateful(one) && replicas(one) > 1)).toContain('channel-manager');
  expect(namesOf((one) => isStateful(one) && replicas(one) > 1 && !isParallel(one))).toEqual([]);
});

test('the console, which faces the network, is not given the database of those that write', () => {
  expect(namesOf(({ text }) => text.includes('fulmen-console-database'))).toEqual(['console']);
  expect(namesOf(({ text }) => text.includes('fulmen-node-database'))).not.toContain('console');
});

test('a Secret is mounted whole: renewed certificates never reach a subPath', () => {
  expect(namesOf(({ text }) => /^[^#]*\bsubPath/m.test(text))).toEqual([]);
});

test('certificates have the units that the fleet’s have elsewhere', () => {
  const unitsOf = ({ text }: Manifest): string | undefined => /organizationalUnits: \[(.*)\]/.exec(text)?.[1];
  const units = manifests
    .filter((one) => one.kind === 'Certificate' && unitsOf(one) !== undefined)
    .map((one) => `${one.name}: ${unitsOf(one)}`);
  expect(units.toSorted()).toEqual(
    FLEET.map(({ name, capabilities }) => `${name}: ${capabilities.join(', ')}`).toSorted(),
  );
});

test('a gateway has memory for all that strangers may make it hold, beside half a GiB for everything else', () => {
  const gateway = manifests.find(({ name, kind }) => name === 'peer-gateway' && kind === 'Deployment');
  const limitGib = Number(/limits: \{ memory: (\d+)Gi \}/.exec(gateway?.text ?? '')?.[1]);
  const heldGib = (DEFAULT_LIMITS.maxUnwantedPeers * PEER_MEMORY_BYTES) / 2 ** 30;
  expect(limitGib).toBeGreaterThanOrEqual(heldGib + 0.5);
});

test('a pod that waits for others is not ready, and is left alone', () => {
  const probes = ({ text }: Manifest, kind: string): string =>
    new RegExp(`^ +${kind}Probe:\\n +(.*)$`, 'm').exec(text)?.[1] ?? 'none';
  const workloads = manifests.filter((one) => isStateful(one) || one.kind === 'Deployment');
  for (const one of workloads) {
    for (const kind of ['startup', 'liveness'])
      expect([one.name, kind, probes(one, kind)]).toEqual([
        one.name,
        kind,
        'httpGet: { path: /alive, port: metrics }',
      ]);
    expect(['httpGet: { path: /metrics, port: metrics }', 'grpc: { port: 9000 }']).toContain(
      probes(one, 'readiness'),
    );
  }
});
