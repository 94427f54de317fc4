/** What may leave the on-chain wallet. */
import { createPsbt, extractPsbt, finalizePsbt, psbtUnsignedTx, psbtWitnesses } from '@fulmen/bitcoin/psbt';
import { p2wpkhScript, p2wshScript, txid } from '@fulmen/bitcoin';
import { fundingScriptPubKey } from '@fulmen/channel/commitment/scripts/funding';
import { Transaction } from '@scure/btc-signer';
import { secp256k1 as secp } from '@fulmen/crypto/default';
import { channelSecrets, decodeExtendedPublic, hardened, walletPublicKey } from '@fulmen/keys';
import { afterEach, describe, expect, test } from 'vitest';
import { holderDelayedScriptPubKey } from '../enforcement/claim.ts';
import { DEFAULT_LIMITS } from '../enforcement/limits.ts';
import { type Content, FUNDING_SAT, KEPT, registrationOf, START } from '../testing/channel.ts';
import type { Harness, HarnessOptions } from '../testing/harness.ts';
import { SignerPairs } from '../testing/pair.ts';
import { wireRegistration } from '../testing/wire.ts';
import { type WalletKey, walletKey } from '../wallet/paths.ts';

const pairs = new SignerPairs(secp);
const { parties } = pairs;
const { keys, channelKeysId } = parties.alice;
afterEach(() => pairs.stopAll());
const startAlice = (options: HarnessOptions['options'] = {}): Promise<Harness> =>
  pairs.start('alice', { options });
const refused = (policy: string) => ({ metadata: { 'fulmen-refusal-policy': policy } });

describe('the wallet', () => {
  const path = (purpose: 84 | 86, chain: number, index: number) => [
    hardened(purpose),
    hardened(1),
    hardened(0),
    chain,
    index,
  ];
  const key = (purpose: 84 | 86, chain: number, index: number): WalletKey => {
    const found = walletKey(secp, keys, {
      fingerprint: keys.masterFingerprint,
      path: path(purpose, chain, index),
    });
    if (found === undefined) throw new RangeError('no wallet key');
    return found;
  };
  const foreign = p2wpkhScript(parties.bob.keys.nodeId);

  interface Spending {
    readonly fingerprint?: number;
    /** The account of each input, and what the PSBT says of its value. */
    readonly inputs?: readonly (readonly [84 | 86, bigint])[];
  }
  /** Spends coins of the wallet, 1,000,000 sat of each account unless told, with origins. */
  function psbt(
    outputs: readonly {
      readonly script: Uint8Array;
      readonly valueSat: bigint;
      readonly origin?: number[];
    }[],
    { fingerprint = keys.masterFingerprint, inputs = ACCOUNTS }: Spending = {},
  ): Uint8Array {
    const coins = inputs.map(([purpose], i) => key(purpose, i, 3 + i));
    const unsigned = createPsbt({
      version: 2,
      locktime: 0,
      inputs: inputs.map(([, valueSat], i) => ({
        txid: new Uint8Array(32).fill(i + 1),
        vout: 0,
        sequence: 0xfffffffd,
        spent: { script: coins[i]?.script ?? foreign, valueSat },
      })),
      outputs: outputs.map(({ script, valueSat }) => ({ script, valueSat })),
    });
    const tx = Transaction.fromPSBT(unsigned, { allowUnknownOutputs: true, disableScriptCheck: true });
    coins.forEach(({ kind, publicKey }, i) => {
      const der = { fingerprint, path: path(kind === 'p2wpkh' ? 84 : 86, i, 3 + i) };
      tx.updateInput(
        i,
        kind === 'p2wpkh'
          ? { bip32Derivation: [[publicKey, der]] }
          : { tapBip32Derivation: [[publicKey.slice(1), { hashes: [], der }]] },
      );
    });
    outputs.forEach(({ origin }, i) => {
      if (origin !== undefined)
        tx.updateOutput(i, {
          bip32Derivation: [
            [key(84, origin[3] ?? 0, origin[4] ?? 0).publicKey, { fingerprint, path: origin }],
          ],
        });
    });
    return tx.toPSBT();
  }
  const ACCOUNTS: NonNullable<Spending['inputs']> = [
    [84, 1_000_000n],
    [86, 1_000_000n],
  ];
  const change = { script: key(84, 1, 7).script, valueSat: 1_499_000n, origin: path(84, 1, 7) };

  test('descriptors are the accounts’ keys', async () => {
    const { client } = await startAlice();
    const { bip84AccountXpub, fingerprint } = await client.getWalletDescriptors({});
    const account = decodeExtendedPublic(bip84AccountXpub);
    if (!account.ok) throw new RangeError('no key');
    expect(p2wpkhScript(walletPublicKey(secp, account.value, 'change', 7))).toEqual(change.script);
    expect(fingerprint).toMatch(/^[0-9a-f]{8}$/);
  });

  test('whoever plans a payment is told above which fee it is refused', async () => {
    const { client } = await startAlice({ onchain: { maximumFeeSat: 10_000n } });
    const { maximumFeeSat } = await client.getWalletDescriptors({});
    expect(maximumFeeSat).toBe(10_000n);
    const ask = (feeSat: bigint) =>
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([{ ...change, valueSat: 2_000_000n - feeSat }]),
      });
    await ask(10_000n);
    await expect(ask(10_001n)).rejects.toMatchObject(refused('policy-onchain-fee-range'));
  });

  test('both kinds of inputs are signed, and the transaction is whole', async () => {
    const { client } = await startAlice();
    const { psbt: signed } = await client.signPsbt({
      delayedOutputs: [],
      psbt: psbt([change, { script: foreign, valueSat: 500_000n }]),
    });
    const final = finalizePsbt(signed);
    if (!final.ok) throw final.error;
    const tx = extractPsbt(final.value);
    expect(tx.ok && tx.value.inputs.map(({ witness }) => witness.length)).toEqual([2, 1]);
  });

  test('fees, foreign payments beyond the velocity, and foreign inputs are refused; the window is shared', async () => {
    const { client } = await startAlice({ onchain: { velocitySat: 700_000n, maximumFeeSat: 10_000n } });
    const pay = (valueSat: bigint) =>
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([
          { ...change, valueSat: 1_999_000n - valueSat },
          { script: foreign, valueSat },
        ]),
      });
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 1_000_000n }]) }),
    ).rejects.toMatchObject(refused('policy-onchain-fee-range'));
    await expect(
      client.signPsbt({ delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 2_000_001n }]) }),
    ).rejects.toMatchObject(refused('policy-onchain-fee-range'));
    await pay(500_000n);
    await expect(pay(300_000n)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await pay(200_000n);
    // An origin that does not lead to the output's script does not make it the wallet's.
    const lie = { script: foreign, valueSat: 1_999_000n, origin: path(84, 1, 7) };
    await expect(client.signPsbt({ delayedOutputs: [], psbt: psbt([lie]) })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    await expect(
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([{ ...change, valueSat: 1_999_500n }], { fingerprint: 1 }),
      }),
    ).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await expect(client.signPsbt({ delayedOutputs: [], psbt: new Uint8Array(50) })).rejects.toMatchObject(
      refused('policy-malformed-request'),
    );
  });

  test('the fee counts what was ever said of an input: a signature commits to its own value alone', async () => {
    const { client } = await startAlice({ onchain: { maximumFeeSat: 10_000n } });
    const ask = (...valuesSat: readonly [bigint, bigint]) =>
      client.signPsbt({
        delayedOutputs: [],
        psbt: psbt([{ ...change, valueSat: 995_000n }], {
          inputs: valuesSat.map((valueSat) => [84, valueSat] as const),
        }),
      });
    await ask(1_000_000n, 1n);
    await ask(1_000_000n, 1n);
    await expect(ask(1n, 1_000_000n)).rejects.toMatchObject(refused('policy-onchain-fee-range'));
  });

  describe('a funding', () => {
    const { funding: registered } = registrationOf(secp, parties, 'alice');
    const funding = {
      script: fundingScriptPubKey(registered.holderFundingPubkey, registered.counterpartyFundingPubkey),
      valueSat: FUNDING_SAT,
    };
    const rest = { ...change, valueSat: 999_000n };
    const inputs = [
      [84, FUNDING_SAT],
      [86, 1_000_000n],
    ] as const;

    /** A channel that is registered with the transaction of these outputs, at a signer that lets nothing else go. */
    async function registeredWith(outputs: Parameters<typeof psbt>[0], content = KEPT) {
      const whole = psbt(outputs, { inputs });
      const unsigned = psbtUnsignedTx(whole);
      if (!unsigned.ok) throw unsigned.error;
      const { harness, channel } = await pairs.two({
        fundingTxid: txid(unsigned.value),
        alice: { options: { onchain: { velocitySat: 1_000n } } },
      });
      channel.content = content;
      const fund = (bytes: Uint8Array) =>
        harness.alice.client.signPsbt({ delayedOutputs: [], psbt: bytes, channelKeysId });
      return { whole, channel, fund };
    }

    test('is signed for a registered channel, as it was registered, when there is a way back', async () => {
      const { whole, channel, fund } = await registeredWith([funding, rest]);
      // Nobody has proven yet that the money can come back without the counterparty.
      await expect(fund(whole)).rejects.toMatchObject({
        code: 'unavailable',
        ...refused('policy-commitment-initial-not-validated'),
      });
      const opened = await channel.run('alice', channel.counterpartyCommitment('alice', KEPT, 0n));
      const answered = await channel.run('bob', {
        ...channel.holderCommitment('bob', KEPT, 0n, opened),
        ...channel.counterpartyCommitment('bob', KEPT, 0n),
      });
      await expect(fund(whole)).rejects.toMatchObject({ code: 'unavailable' });
      await channel.run('alice', channel.holderCommitment('alice', KEPT, 0n, answered));
      const { psbt: signed } = await fund(whole);
      expect(finalizePsbt(signed).ok).toBe(true);
      // The commitment spends no other transaction.
      const others = [
        [funding, { ...rest, valueSat: 998_000n }],
        [{ ...funding, valueSat: FUNDING_SAT - 1n }, rest],
        [rest, funding],
        [rest],
      ];
      for (const outputs of others) {
        const valuesSat = outputs.length === 1 ? ([[84, 1_000_000n]] as const) : inputs;
        await expect(fund(psbt(outputs, { inputs: valuesSat }))).rejects.toMatchObject(
          refused('policy-onchain-destination'),
        );
      }
    });

    test('pays the channel and the wallet, and nobody else', async () => {
      const { whole, channel, fund } = await registeredWith([
        funding,
        { script: foreign, valueSat: 999_000n },
      ]);
      await channel.open();
      await expect(fund(whole)).rejects.toMatchObject(refused('policy-onchain-destination'));
    });

    const pushing = (pushedMsat: bigint): Content => ({
      ...START,
      toHolderMsat: 1_000n * FUNDING_SAT - pushedMsat,
      toCounterpartyMsat: pushedMsat,
    });

    test('gives the counterparty no more than the velocity lets go, from one funding to the next', async () => {
      const { whole, channel, fund } = await registeredWith([funding, rest], pushing(500_000_000n));
      await channel.open();
      await expect(fund(whole)).rejects.toMatchObject(refused('policy-onchain-velocity'));
      const within = await registeredWith([funding, rest], pushing(999_001n));
      await within.channel.open();
      expect(finalizePsbt((await within.fund(whole)).psbt).ok).toBe(true);
      // What was pushed is spent.
      await expect(within.fund(whole)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    });

    test('gives what the commitment says that gives the most, whoever owns it', async () => {
      const { whole, channel, fund } = await registeredWith([funding, rest]);
      const given = pushing(500_000_000n);
      const answered = await channel.run('bob', channel.counterpartyCommitment('bob', KEPT, 0n));
      await channel.run('alice', channel.holderCommitment('alice', KEPT, 0n, answered));
      // The counterparty's could still give everything away.
      await expect(fund(whole)).rejects.toMatchObject({ code: 'unavailable' });
      await channel.run('alice', channel.counterpartyCommitment('alice', given, 0n));
      await expect(fund(whole)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    });

    test('pays what the channel was registered with', async () => {
      const { whole, channel, fund } = await registeredWith([
        { ...funding, valueSat: FUNDING_SAT - 1n },
        rest,
      ]);
      await channel.open();
      await expect(fund(whole)).rejects.toMatchObject(refused('policy-onchain-destination'));
    });
  });

  test('a key id that nobody registered makes no payment a funding', async () => {
    const { client } = await startAlice({ onchain: { velocitySat: 700_000n } });
    const payment = { script: p2wshScript(Uint8Array.of(0x51)), valueSat: 900_000n };
    const request = { delayedOutputs: [], psbt: psbt([{ ...change, valueSat: 1_099_000n }, payment]) };
    await expect(client.signPsbt({ ...request, channelKeysId })).rejects.toMatchObject(
      refused('policy-channel-unregistered'),
    );
    await expect(client.signPsbt(request)).rejects.toMatchObject(refused('policy-onchain-velocity'));
  });

  /** A second stage of Alice's commitment 3, its fee paid by 1,000,000 sat of the wallet. */
  function secondStage(commitmentNumber: bigint, changeSat: bigint): Uint8Array {
    const registration = registrationOf(secp, parties, 'alice');
    const delayed = holderDelayedScriptPubKey(
      {
        secp,
        secrets: channelSecrets(secp, keys, channelKeysId),
        limits: DEFAULT_LIMITS,
      },
      registration,
      commitmentNumber,
    );
    const coin = key(84, 0, 3);
    const unsigned = createPsbt({
      version: 2,
      locktime: 700,
      inputs: [
        { script: p2wshScript(Uint8Array.of(0x51)), valueSat: 300_000n },
        { script: coin.script, valueSat: 1_000_000n },
      ].map((spent, i) => ({ txid: new Uint8Array(32).fill(i + 1), vout: 0, sequence: 1, spent })),
      outputs: [
        { script: delayed, valueSat: 300_000n },
        { script: change.script, valueSat: changeSat },
      ],
    });
    const tx = Transaction.fromPSBT(unsigned, { allowUnknownOutputs: true, disableScriptCheck: true });
    const fingerprint = keys.masterFingerprint;
    tx.updateInput(1, { bip32Derivation: [[coin.publicKey, { fingerprint, path: path(84, 0, 3) }]] });
    tx.updateOutput(1, {
      bip32Derivation: [[key(84, 1, 7).publicKey, { fingerprint, path: path(84, 1, 7) }]],
    });
    return tx.toPSBT();
  }

  test('it pays the fee of a second stage, whose output is the channel’s own and nobody else’s', async () => {
    const { client } = await startAlice({ onchain: { velocitySat: 100_000n, maximumFeeSat: 10_000n } });
    const delayedOutputs = [{ channelKeysId, commitmentNumber: 3n, outputIndex: 0 }];
    const request = { psbt: secondStage(3n, 995_000n), delayedOutputs };
    // A channel that is not registered has no script that could be told from a stranger's.
    await expect(client.signPsbt(request)).rejects.toMatchObject(refused('policy-onchain-velocity'));
    await client.registerChannel(wireRegistration(registrationOf(secp, parties, 'alice'), 1n));
    const { psbt: signed } = await client.signPsbt(request);
    const witnesses = psbtWitnesses(signed);
    expect(witnesses.ok && witnesses.value.map((witness) => witness?.length)).toEqual([undefined, 2]);
    // Not named, or of another commitment, it is a payment to a stranger.
    await expect(client.signPsbt({ ...request, delayedOutputs: [] })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    await expect(client.signPsbt({ ...request, psbt: secondStage(4n, 995_000n) })).rejects.toMatchObject(
      refused('policy-onchain-velocity'),
    );
    // What the other input brings counts.
    await expect(client.signPsbt({ ...request, psbt: secondStage(3n, 980_000n) })).rejects.toMatchObject(
      refused('policy-onchain-fee-range'),
    );
    await expect(client.signPsbt({ ...request, channelKeysId })).rejects.toMatchObject(
      refused('policy-malformed-request'),
    );
    const foreign = {
      ...delayedOutputs[0],
      channelKeysId: new Uint8Array(32),
      commitmentNumber: 3n,
      outputIndex: 1,
    };
    await expect(
      client.signPsbt({ ...request, delayedOutputs: [...delayedOutputs, foreign] }),
    ).rejects.toMatchObject(refused('policy-malformed-request'));
  });
});
