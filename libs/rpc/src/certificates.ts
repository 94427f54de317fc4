/**
 * The certificates of mutual TLS, from files that are read anew while the process runs: whoever renews a certificate
 * replaces its files and restarts nothing. New connections use what the files hold; those that are open go on.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { type ChannelCredentials, experimental, type ServerCredentials } from '@grpc/grpc-js';
import { ConfigError } from '@fulmen/service/config';
import type { Logger, Metrics, Runtime, Task } from '@fulmen/service';

/** PEM files of one service: the authority, the service's certificate under it, that certificate's key. */
export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** What these files hold. */
export interface TlsPems {
  readonly caCertificate: Buffer;
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
}

/** The variables that name the files, as a service's configuration has read them. */
export interface TlsVariables {
  readonly FULMEN_TLS_CA_FILE?: string | undefined;
  readonly FULMEN_TLS_CERTIFICATE_FILE?: string | undefined;
  readonly FULMEN_TLS_KEY_FILE?: string | undefined;
}

/** Undefined when none of the variables is set. @throws ConfigError when only some are */
export function tlsFiles(variables: TlsVariables): TlsFiles | undefined {
  const {
    FULMEN_TLS_CA_FILE: ca,
    FULMEN_TLS_CERTIFICATE_FILE: certificate,
    FULMEN_TLS_KEY_FILE: key,
  } = variables;
  if (ca !== undefined && certificate !== undefined && key !== undefined) return { ca, certificate, key };
  if (ca === undefined && certificate === undefined && key === undefined) return undefined;
  throw new ConfigError(
    'FULMEN_TLS_CA_FILE, FULMEN_TLS_CERTIFICATE_FILE and FULMEN_TLS_KEY_FILE go together: set all or none',
  );
}

type Listener = (pems: TlsPems) => void;

/** By what one end of a connection proves itself, and knows the other. */
export class TlsIdentity {
  #pems: TlsPems;
  readonly #listeners = new Set<Listener>();
  readonly #provider: experimental.CertificateProvider = {
    addCaCertificateListener: (listener) => this.#add(listener),
    removeCaCertificateListener: (listener) => this.#listeners.delete(listener),
    addIdentityCertificateListener: (listener) => this.#add(listener),
    removeIdentityCertificateListener: (listener) => this.#listeners.delete(listener),
  };

  constructor(pems: TlsPems) {
    this.#pems = pems;
  }

  get pems(): TlsPems {
    return this.#pems;
  }

  /** New connections use these. */
  replace(pems: TlsPems): void {
    this.#pems = pems;
    for (const listener of this.#listeners) listener(pems);
  }

  /** Of a server that takes clients of the same authority, and no others. */
  serverCredentials(): ServerCredentials {
    const requiresClientCertificate = true;
    return experimental.createCertificateProviderServerCredentials(
      this.#provider,
      this.#provider,
      requiresClientCertificate,
    );
  }

  channelCredentials(): ChannelCredentials {
    return experimental.createCertificateProviderChannelCredentials(this.#provider, this.#provider);
  }

  #add(listener: Listener): void {
    this.#listeners.add(listener);
    // Whoever listens is not ready to hear before it has returned to its own caller.
    queueMicrotask(() => {
      if (this.#listeners.has(listener)) listener(this.#pems);
    });
  }
}

/** How often files are read anew. */
const REFRESH_MS = 60_000;

export interface CertificatesPorts {
  readonly runtime: Pick<Runtime, 'sleep' | 'spawn'>;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Every certificate of one process. */
export class Certificates {
  readonly #logger: Logger;
  readonly #expires: ReturnType<Metrics['gauge']>;
  readonly #opened: { readonly files: TlsFiles; readonly identity: TlsIdentity }[] = [];
  readonly #task: Task;

  constructor({ runtime, logger, metrics }: CertificatesPorts) {
    this.#logger = logger;
    this.#expires = metrics.gauge(
      'certificate_expires_seconds',
      'Unix time at which the certificate in use ends, by its file',
      ['file'],
    );
    this.#task = runtime.spawn('certificates', async (signal) => {
      for (;;) {
        await runtime.sleep(REFRESH_MS, signal);
        await this.refresh();
      }
    });
  }

  /**
   * Reads an identity, which follows its files until `close`.
   * @throws ConfigError when a file cannot be read, or they do not belong together
   */
  async open(files: TlsFiles): Promise<TlsIdentity> {
    const identity = new TlsIdentity(await readPems(files));
    this.#opened.push({ files, identity });
    this.#show(files, identity);
    return identity;
  }

  /**
   * Takes what changed in the files. They are not replaced all at once: what does not fit together yet is left to the next
   * time, and until then the old ones are used.
   */
  async refresh(): Promise<void> {
    for (const { files, identity } of this.#opened) {
      try {
        const pems = await readPems(files);
        if (isSame(pems, identity.pems)) continue;
        identity.replace(pems);
        this.#show(files, identity);
        this.#logger.info({ file: files.certificate }, 'a renewed certificate is used');
      } catch (error) {
        this.#logger.error({ err: error }, 'the files of a certificate changed, and cannot be used');
      }
    }
  }

  /** Files are not looked at any more. */
  async close(): Promise<void> {
    await this.#task.stop();
  }

  #show({ ca, certificate }: TlsFiles, { pems }: TlsIdentity): void {
    this.#expires.set({ file: ca }, endOf(pems.caCertificate));
    this.#expires.set({ file: certificate }, endOf(pems.certificate));
  }
}

/** Unix time in seconds. */
function endOf(pem: Buffer): number {
  return new X509Certificate(pem).validToDate.getTime() / 1000;
}

function isSame(a: TlsPems, b: TlsPems): boolean {
  return (
    a.caCertificate.equals(b.caCertificate) &&
    a.certificate.equals(b.certificate) &&
    // A key is told from its successor by its certificate; compared here, for one that is put in place alone.
    a.privateKey.equals(b.privateKey)
  );
}

/** @throws ConfigError */
async function readPems({ ca, certificate, key }: TlsFiles): Promise<TlsPems> {
  const read = async (file: string): Promise<Buffer> => {
    try {
      return await readFile(file);
    } catch {
      throw new ConfigError(`the TLS file ${file} cannot be read`);
    }
  };
  const pems = {
    caCertificate: await read(ca),
    certificate: await read(certificate),
    privateKey: await read(key),
  };
  try {
    endOf(pems.caCertificate);
    endOf(pems.certificate);
    // Refuses a key of another certificate.
    createSecureContext({ ca: pems.caCertificate, cert: pems.certificate, key: pems.privateKey });
  } catch {
    throw new ConfigError(
      `the TLS files ${ca}, ${certificate} and ${key} do not hold a certificate and its key`,
    );
  }
  return pems;
}
