/** A gateway with one peer, as far as a hub sees it. */
import type { GatewayToManager, ManagerToGateway } from '@fulmen/proto/link/v1/link';
import type { DuplexStream } from '@fulmen/rpc';
import type { PeerHub } from '../peer-hub.ts';

export type ToGateway = NonNullable<ManagerToGateway['body']>;

/** A gateway's stream to the hub, and what it says and hears on it. */
export function gatewayOf(
  hub: Pick<PeerHub, 'serve'>,
  peerNodeId: Uint8Array,
  gatewayId = 'g',
  hears: (body: ToGateway) => void = () => undefined,
) {
  const sent: ToGateway[] = [];
  const inbox: GatewayToManager[] = [];
  let wake = (): void => undefined;
  let over = false;
  const end = (): void => {
    over = true;
    wake();
  };
  const stream = {
    send: async ({ body }: ManagerToGateway) => {
      if (body === undefined) return;
      sent.push(body);
      hears(body);
    },
    cancel: end,
    async *[Symbol.asyncIterator]() {
      while (!over) {
        const next = inbox.shift();
        if (next === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else yield next;
      }
    },
  } as unknown as DuplexStream<GatewayToManager, ManagerToGateway>;
  const say = (body: NonNullable<GatewayToManager['body']>): void => {
    inbox.push({ body });
    wake();
  };
  void hub.serve(stream);
  say({ $case: 'hello', value: { gatewayId, incarnation: 1n } });
  return {
    end,
    say,
    /** How much of what was said the hub has not read. */
    unheard: () => inbox.length,
    /** The peer's next message on a connection that was accepted. */
    inbound: (generation: bigint, number: bigint, message: Uint8Array) =>
      say({ $case: 'inbound', value: { peerNodeId, generation, number, message } }),
    announce: (connectionId: bigint) =>
      say({
        $case: 'peerConnected',
        value: {
          peerNodeId,
          connectionId,
          theirFeatures: new Uint8Array(0),
          remoteAddress: '',
          inbound: true,
        },
      }),
    /** Everything of one kind that the hub sent. */
    heard: <C extends ToGateway['$case']>($case: C) =>
      sent.flatMap((body) =>
        body.$case === $case
          ? // The case selected the variant.
            [body.value as Extract<ToGateway, { $case: C }>['value']]
          : [],
      ),
  };
}
