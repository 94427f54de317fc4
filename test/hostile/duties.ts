/** What BOLT 2 asks of whoever receives a message, sentence by sentence, and the rows that hold the fleet to it. */
import { readFileSync } from 'node:fs';
import { RULES } from './rules.ts';

/** A sentence, with the conditions that stand above it. */
export type Duty = { readonly sentence: string } & (
  | { readonly rows: readonly string[] }
  /** Why no row can break it, with rows that show what happens instead. */
  | { readonly notApplicable: string; readonly rows?: readonly string[] }
  /** Tested elsewhere, or not kept. */
  | { readonly elsewhere: string; readonly rows?: readonly string[] }
  | { readonly notDone: string }
);

export interface DutySection {
  readonly section: string;
  readonly duties: readonly Duty[];
}

const FILE = new URL('./bolt2.json', import.meta.url);

export function duties(): readonly DutySection[] {
  return JSON.parse(readFileSync(FILE, 'utf8')) as readonly DutySection[];
}

export function rowsOf(duty: Duty): readonly string[] {
  return 'rows' in duty ? (duty.rows ?? []) : [];
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function rowText(name: string): string {
  const reaction = RULES.find((rule) => rule.name === name)?.reaction ?? 'no such row';
  return `${cell(name)}: *${reaction.replaceAll('_', ' ')}*`;
}

function dutyText(duty: Duty): string {
  const rows = rowsOf(duty).map(rowText);
  const text =
    'notApplicable' in duty
      ? [`n/a: ${cell(duty.notApplicable)}`]
      : 'elsewhere' in duty
        ? [cell(duty.elsewhere)]
        : 'notDone' in duty
          ? [`**not kept:** ${cell(duty.notDone)}`]
          : [];
  return [...text, ...rows].join('<br>');
}

/** docs/hostile-peer.md. */
export function document(): string {
  const sections = duties();
  const all = sections.flatMap((section) => section.duties);
  const listed = new Set(all.flatMap(rowsOf));
  const others = RULES.filter(({ name }) => !listed.has(name));
  const count = (kind: string): number => all.filter((duty) => kind in duty).length;
  const direct = all.length - count('notApplicable') - count('elsewhere') - count('notDone');
  const lines = [
    '# A hostile peer',
    '',
    `\`test/hostile\` has ${RULES.length} rows. Each begins a life of the whole fleet (its real services on simulated ports, with real signatures),`,
    'lets a peer break one rule of BOLT 2, and compares what the fleet does with what the sentence asks for. An honest peer is connected all the',
    'while, and must not notice. `npm test -- test/hostile` runs them; this page is made from the same tables by',
    '`node deploy/bootstrap/run.mjs test/hostile/document.ts`, and a test holds it to them.',
    '',
    `Below stands every sentence of BOLT 2 that binds a receiver (${all.length}): ${direct} have rows that break them,`,
    `${count('notApplicable')} speak of protocols that the fleet does not offer or of nothing that a peer could do,`,
    `${count('elsewhere')} are tested elsewhere, ${count('notDone')} ${count('notDone') === 1 ? 'is' : 'are'} not kept.`,
    '',
    'Reactions: *error* fails the channel (by force, or forgets the opening); *error passive* asks the peer to close and broadcasts nothing;',
    '*warning disconnect* ends the connection and keeps the channel; *refusal* is an error about another channel id; *closed* a mutual close;',
    '*ignore* means that all goes on.',
    '',
    'The sentences are those of BOLT 2 at commit a377265 (CC BY 4.0).',
  ];
  const isForeign = (section: DutySection): boolean =>
    section.duties.every((duty) => 'notApplicable' in duty);
  for (const { section, duties: own } of sections.filter((other) => !isForeign(other))) {
    lines.push('', `## ${section}`, '', '| the receiver | rows |', '|---|---|');
    for (const duty of own) lines.push(`| ${cell(duty.sentence)} | ${dutyText(duty)} |`);
  }
  lines.push('', '## Rows for other sentences', '', '| sentence | section | row |', '|---|---|---|');
  for (const { sentence, section, name } of others)
    lines.push(`| ${cell(sentence)} | ${cell(section)} | ${rowText(name)} |`);
  lines.push('', '## Protocols that the fleet does not offer');
  for (const { section, duties: own } of sections.filter(isForeign)) {
    lines.push('', `### ${section}`, '', ...new Set(own.map(dutyText)), '');
    for (const { sentence } of own) lines.push(`- ${sentence}`);
  }
  return `${lines.join('\n')}\n`;
}
