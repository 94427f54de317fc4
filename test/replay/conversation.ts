/**
 * What a peer and the fleet said to each other, as text:
 *
 *   # case pay: an invoice without an amount
 *   # peer lnd 0.21.2-beta
 *   # mnemonic …                         of the fleet's throw-away seed
 *   # feerates 253 253 5000 253 1000     as `FeerateEstimates` lists them
 *   # channel CHANNEL_ID KEYS_ID
 *   lnd out init 0010…
 *   lnd in init 0010…
 *   lnd end counterparty_closed
 *
 * `in` came from the peer, `out` went to it, each in the order in which a gateway saw it.
 */
import type { FeerateEstimates } from '@fulmen/channel';
import { fromHex, InternalError, toHex } from '@fulmen/codec';
import { messageName } from '@fulmen/wire';

export type Line =
  | { readonly direction: 'in' | 'out'; readonly message: Uint8Array }
  /** The connection ended. */
  | { readonly direction: 'end'; readonly cause: string };

export interface Conversation {
  readonly caseName: string;
  /** Implementation, and in full. */
  readonly kind: string;
  readonly version: string;
  readonly counterpartyNodeId: Uint8Array;
  readonly mnemonic: string;
  readonly feerates: FeerateEstimates;
  /** Channel id in hex to the id of the fleet's keys for it. */
  readonly channelKeys: ReadonlyMap<string, Uint8Array>;
  readonly lines: readonly Line[];
}

const FEERATES = [
  'minimumAnchorSatPerKw',
  'minimumNonAnchorSatPerKw',
  'maximumSatPerKw',
  'closeMinimumSatPerKw',
  'closeTargetSatPerKw',
] as const satisfies readonly (keyof FeerateEstimates)[];

/** The type number of a message. */
export function typeOf(message: Uint8Array): number {
  return ((message[0] ?? 0) << 8) | (message[1] ?? 0);
}

/** BOLT's name of a message, or `type_N`. */
export function nameOf(message: Uint8Array): string {
  return messageName(typeOf(message)) ?? `type_${typeOf(message)}`;
}

export function format(conversation: Conversation): string {
  const { kind, feerates } = conversation;
  const heads = [
    `case ${conversation.caseName}`,
    `peer ${conversation.version}`,
    `node ${toHex(conversation.counterpartyNodeId)}`,
    `mnemonic ${conversation.mnemonic}`,
    `feerates ${FEERATES.map((name) => feerates[name]).join(' ')}`,
    ...[...conversation.channelKeys].map(([id, keys]) => `channel ${id} ${toHex(keys)}`),
  ];
  const lines = conversation.lines.map((line) =>
    line.direction === 'end'
      ? `${kind} end ${line.cause}`
      : `${kind} ${line.direction} ${nameOf(line.message)} ${toHex(line.message)}`,
  );
  return `${[...heads.map((head) => `# ${head}`), ...lines].join('\n')}\n`;
}

/** Reads what `format` wrote. @throws InternalError naming the line. */
export function parse(text: string): Conversation {
  const heads = new Map<string, string>();
  const channelKeys = new Map<string, Uint8Array>();
  const lines: Line[] = [];
  let kind = '';
  for (const [index, written] of text.trimEnd().split('\n').entries()) {
    const bad = (): never => {
      throw new InternalError(`line ${index + 1} of a conversation cannot be read`);
    };
    if (written.startsWith('# ')) {
      const [name = '', ...words] = written.slice(2).split(' ');
      if (name === 'channel') channelKeys.set(words[0] ?? '', fromHex(words[1] ?? ''));
      else heads.set(name, words.join(' '));
      continue;
    }
    const [of = '', direction, what = '', hex] = written.split(' ');
    kind = of;
    if (direction === 'end') lines.push({ direction, cause: what });
    else if ((direction === 'in' || direction === 'out') && hex !== undefined) {
      const message = fromHex(hex);
      if (nameOf(message) !== what) bad();
      lines.push({ direction, message });
    } else bad();
  }
  const head = (name: string): string => {
    const value = heads.get(name);
    if (value === undefined) throw new InternalError(`a conversation without ${name}`);
    return value;
  };
  const numbers = head('feerates').split(' ').map(Number);
  const feerate = (name: (typeof FEERATES)[number]): number => numbers[FEERATES.indexOf(name)] ?? 0;
  return {
    caseName: head('case'),
    kind,
    version: head('peer'),
    counterpartyNodeId: fromHex(head('node')),
    mnemonic: head('mnemonic'),
    feerates: {
      minimumAnchorSatPerKw: feerate('minimumAnchorSatPerKw'),
      minimumNonAnchorSatPerKw: feerate('minimumNonAnchorSatPerKw'),
      maximumSatPerKw: feerate('maximumSatPerKw'),
      closeMinimumSatPerKw: feerate('closeMinimumSatPerKw'),
      closeTargetSatPerKw: feerate('closeTargetSatPerKw'),
    },
    channelKeys,
    lines,
  };
}
