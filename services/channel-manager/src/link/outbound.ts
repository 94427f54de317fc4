/** One gateway's stream, seen from this replica: a bounded queue of messages out. */
import type { ManagerToGateway, GatewayToManager } from '@fulmen/proto/link/v1/link';
import { type DuplexStream } from '@fulmen/rpc';

type Body = NonNullable<ManagerToGateway['body']>;

/** Messages queued for a gateway that does not read; beyond it the link is cut, and reestablish repairs. */
const MAX_QUEUED = 10_000;

export class GatewayStream {
  readonly gatewayId: string;
  readonly incarnation: bigint;
  readonly #stream: DuplexStream<GatewayToManager, ManagerToGateway>;
  #queued = 0;
  #broken = false;

  constructor(
    gatewayId: string,
    incarnation: bigint,
    stream: DuplexStream<GatewayToManager, ManagerToGateway>,
  ) {
    this.gatewayId = gatewayId;
    this.incarnation = incarnation;
    this.#stream = stream;
  }

  get broken(): boolean {
    return this.#broken;
  }

  /** In order; never waits. */
  send(body: Body): void {
    if (this.#broken) return;
    if (this.#queued >= MAX_QUEUED) {
      this.cut('the gateway does not read');
      return;
    }
    this.#queued += 1;
    this.#stream.send({ body }).then(
      () => {
        this.#queued -= 1;
      },
      () => {
        this.#broken = true;
      },
    );
  }

  cut(reason: string): void {
    if (this.#broken) return;
    this.#broken = true;
    this.#stream.cancel(reason);
  }
}
