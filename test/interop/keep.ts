/**
 * Chooses from the recordings of the interop lane what `npm test` keeps:
 *   npm run interop -- keep [FOLDER…]
 * FOLDER is a run's, as the lane prints it; all that are left in .fulmen/interop unless told.
 *
 * - libs/wire/fixtures/KIND.txt: the shortest message of every type that an implementation and the fleet said to each
 *   other, in each direction, and those with TLV records that nobody here knows.
 * - test/replay/conversations/KIND-WHAT.txt: for each implementation the shortest conversations that show an opening, a
 *   payment and a close (opened by either side), and updates that both said again after reconnections. What cannot be replayed to the last byte is not kept.
 *
 * An implementation that the recordings lack keeps the files that it has.
 */
import fs from 'node:fs';
import path from 'node:path';
import { toHex } from '@fulmen/codec';
import { decodeMessage } from '@fulmen/wire';
import { repositoryRoot } from '../e2e/support/state.ts';
import { type Conversation, format, type Line, nameOf, parse } from '../replay/conversation.ts';
import { replay } from '../replay/replay.ts';
import { recordingsDir } from './lane/recording.ts';

const MESSAGES_DIR = path.join(repositoryRoot, 'libs/wire/fixtures');
const CONVERSATIONS_DIR = path.join(repositoryRoot, 'test/replay/conversations');
/** Of all files together. */
const MAX_TOTAL_BYTES = 200_000;
/** A blob of peer_storage has 65 kB, and shows no more than a small message does. */
const MAX_MESSAGE_BYTES = 8_000;

type Said = Extract<Line, { direction: 'in' | 'out' }>;

/** What a kept conversation must show. */
interface Wanted {
  readonly what: string;
  readonly shows: (said: readonly Said[]) => boolean;
}

const all = (said: readonly Said[], direction: 'in' | 'out', ...names: readonly string[]): boolean =>
  names.every((name) => said.some((line) => line.direction === direction && nameOf(line.message) === name));

const wholeLife = (opener: 'in' | 'out') => (said: readonly Said[]) =>
  all(said, opener, 'open_channel', 'funding_created') &&
  (all(said, 'in', 'update_add_htlc') || all(said, 'out', 'update_add_htlc')) &&
  (all(said, 'in', 'update_fulfill_htlc') || all(said, 'out', 'update_fulfill_htlc')) &&
  all(said, 'in', 'commitment_signed', 'revoke_and_ack', 'shutdown', 'closing_signed') &&
  all(said, 'out', 'commitment_signed', 'revoke_and_ack', 'shutdown', 'closing_signed');

const RETRANSMITTED = new Set([
  'update_add_htlc',
  'update_fulfill_htlc',
  'update_fail_htlc',
  'commitment_signed',
  'revoke_and_ack',
]);

/**
 * The same bytes a second time; or updates that follow channel_reestablish at once, whose first time nobody here saw
 * because it was lost.
 */
const saysAgain = (by: 'in' | 'out') => (said: readonly Said[]) => {
  const before = new Set<string>();
  let last = '';
  return said
    .filter(({ direction }) => direction === by)
    .some(({ message }) => {
      const hex = toHex(message);
      const follows = last === 'channel_reestablish' || before.has(hex);
      last = nameOf(message);
      before.add(hex);
      return follows && RETRANSMITTED.has(last);
    });
};

const WANTED: readonly Wanted[] = [
  { what: 'opened-by-the-peer-to-close', shows: wholeLife('in') },
  { what: 'opened-by-the-fleet-to-close', shows: wholeLife('out') },
  { what: 'said-again', shows: (said) => saysAgain('in')(said) && saysAgain('out')(said) },
];

/** Runs the command; prints what it keeps. Throws when the whole is too large. */
export async function keep(folders: readonly string[], say: (text: string) => void): Promise<void> {
  const runs =
    folders.length > 0 ? folders : fs.readdirSync(recordingsDir).map((run) => path.join(recordingsDir, run));
  const conversations = runs
    .flatMap((run) => fs.readdirSync(run).map((file) => path.join(run, file)))
    // Beside the recordings lie the logs of cases that failed.
    .filter((file) => file.endsWith('.txt'))
    .map((file) => parse(fs.readFileSync(file, 'utf8')))
    .filter(({ lines }) => lines.length > 0);
  fs.mkdirSync(MESSAGES_DIR, { recursive: true });
  fs.mkdirSync(CONVERSATIONS_DIR, { recursive: true });
  for (const kind of new Set(conversations.map((one) => one.kind))) {
    const ofKind = conversations.filter((one) => one.kind === kind);
    const messages = chooseMessages(ofKind);
    fs.writeFileSync(path.join(MESSAGES_DIR, `${kind}.txt`), messages);
    say(`${kind}: ${messages.trimEnd().split('\n').length - 1} messages`);
    for (const wanted of WANTED) {
      const chosen = await chooseConversation(ofKind, wanted);
      if (chosen === undefined) say(`${kind}: nothing shows ${wanted.what}`);
      else {
        fs.writeFileSync(path.join(CONVERSATIONS_DIR, `${kind}-${wanted.what}.txt`), format(chosen));
        say(`${kind}: ${wanted.what} from "${chosen.caseName}", ${chosen.lines.length} lines`);
      }
    }
  }
  const total = [MESSAGES_DIR, CONVERSATIONS_DIR]
    .flatMap((dir) => fs.readdirSync(dir).map((file) => fs.statSync(path.join(dir, file)).size))
    .reduce((sum, size) => sum + size, 0);
  say(`${total} bytes together`);
  if (total > MAX_TOTAL_BYTES) throw new TypeError(`more than ${MAX_TOTAL_BYTES} bytes are too many to keep`);
}

function chooseMessages(conversations: readonly Conversation[]): string {
  const chosen = new Map<string, string>();
  for (const { kind, lines } of conversations) {
    for (const line of saidIn(lines)) {
      if (line.message.length > MAX_MESSAGE_BYTES) continue;
      const written = `${kind} ${line.direction} ${nameOf(line.message)} ${toHex(line.message)}`;
      const key = `${nameOf(line.message)} ${line.direction} ${unknownTypes(line.message)}`;
      const known = chosen.get(key);
      if (known === undefined || written.length < known.length) chosen.set(key, written);
    }
  }
  const versions = [...new Set(conversations.map((one) => one.version))].join(', ');
  const sorted = [...chosen].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, written]) => written);
  return `${[`# ${versions}`, ...sorted].join('\n')}\n`;
}

/** Types of the records that this node keeps without knowing them; of what nodes sign, how much. */
function unknownTypes(message: Uint8Array): string {
  const decoded = decodeMessage(message);
  if (!decoded.ok || decoded.value.type === 'unknown') return '';
  const { value } = decoded;
  return 'excessData' in value
    ? String(value.excessData.length)
    : value.unknownTlvs.map(({ type }) => type).join();
}

async function chooseConversation(
  conversations: readonly Conversation[],
  { shows }: Wanted,
): Promise<Conversation | undefined> {
  const candidates = conversations.flatMap(oneChannelEach).filter(({ lines }) => shows(saidIn(lines)));
  const shortest = candidates
    .map((one) => shortened(one, shows))
    .toSorted((a, b) => format(a).length - format(b).length);
  for (const candidate of shortest) {
    const [channelId] = candidate.channelKeys.keys();
    const replayed =
      channelId !== undefined &&
      (await replay(candidate, channelId).then(
        () => true,
        () => false,
      ));
    if (replayed) return candidate;
  }
  return undefined;
}

/** A conversation for each channel, without gossip, pings and the peer's other business. */
function oneChannelEach(conversation: Conversation): readonly Conversation[] {
  return [...conversation.channelKeys].map(([channelId, keys]) => {
    const ids = new Set([channelId]);
    for (const { message } of saidIn(conversation.lines)) {
      const decoded = decodeMessage(message);
      if (decoded.ok && decoded.value.type === 'funding_created') {
        const { fundingTxid, temporaryChannelId } = decoded.value;
        // All but the bytes that the output index alters.
        if (toHex(fundingTxid).slice(0, 60) === channelId.slice(0, 60)) ids.add(toHex(temporaryChannelId));
      }
    }
    return {
      ...conversation,
      channelKeys: new Map([[channelId, keys]]),
      lines: conversation.lines.filter((line) => line.direction === 'end' || isOf(line.message, ids)),
    };
  });
}

function isOf(message: Uint8Array, ids: ReadonlySet<string>): boolean {
  const decoded = decodeMessage(message);
  if (!decoded.ok) return false;
  const { value } = decoded;
  if (value.type === 'init') return true;
  if ('temporaryChannelId' in value) return ids.has(toHex(value.temporaryChannelId));
  return 'channelId' in value && ids.has(toHex(value.channelId));
}

/** Up to the first end of a connection after which it shows what is wanted. */
function shortened(conversation: Conversation, shows: Wanted['shows']): Conversation {
  const ends = conversation.lines.flatMap((line, index) => (line.direction === 'end' ? [index] : []));
  const end = ends.find((index) => shows(saidIn(conversation.lines.slice(0, index))));
  return end === undefined ? conversation : { ...conversation, lines: conversation.lines.slice(0, end + 1) };
}

function saidIn(lines: readonly Line[]): readonly Said[] {
  return lines.flatMap((line) => (line.direction === 'end' ? [] : [line]));
}
