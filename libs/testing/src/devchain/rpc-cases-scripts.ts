/** Compliance cases about the scripts that Lightning uses. */
import { ok, strictEqual } from 'node:assert/strict';
import type { Tx } from '@fulmen/bitcoin';
import {
  OP,
  P2A_SCRIPT,
  SIGHASH,
  compileScript,
  p2pkhScript,
  p2trScript,
  p2wpkhScript,
  p2wshScript,
  scriptNumber,
  taprootKeyPathSighash,
  taprootOutputKey,
  taprootOutputSecretKey,
  withWitness,
} from '@fulmen/bitcoin';
import { fromHex } from '@fulmen/bitcoin/bytes';
import { spendAnyone } from '@fulmen/chain/compliance';
import { hash160 } from '@fulmen/crypto';
import { secp256k1 } from '@fulmen/crypto/default';
import type { RpcCase } from './rpc-bench.ts';
import { ecdsa, publicKey, rejectedByScript, secret, spend } from './rpc-bench.ts';

export const SCRIPT_CASES: Readonly<Record<string, RpcCase>> = {
  P2WPKH: async (bench) => {
    const coin = await bench.fund(p2wpkhScript(publicKey(5)));
    const code = p2pkhScript(hash160(publicKey(5)));
    const tx = spend(coin);
    await rejectedByScript(bench, withWitness(tx, 0, [ecdsa(tx, coin, code, secret(6)), publicKey(5)]));
    await rejectedByScript(
      bench,
      withWitness(tx, 0, [ecdsa(tx, { ...coin, valueSat: 1n }, code, secret(5)), publicKey(5)]),
    );
    await bench.send(withWitness(tx, 0, [ecdsa(tx, coin, code, secret(5)), publicKey(5)]));
    await bench.mine(1);
  },

  'a funding output: 2 of 2': async (bench) => {
    const script = compileScript([OP.N2, publicKey(1), publicKey(2), OP.N2, OP.CHECKMULTISIG]);
    const coin = await bench.fund(p2wshScript(script));
    // The obscured commitment number sits in sequence and locktime.
    const unsigned = spend(coin, { sequence: 0x80ab_cdef, locktime: 0x2012_3456 });
    const first = ecdsa(unsigned, coin, script, secret(1));
    const second = ecdsa(unsigned, coin, script, secret(2));
    const empty = new Uint8Array();
    await rejectedByScript(bench, withWitness(unsigned, 0, [empty, second, first, script]));
    await rejectedByScript(bench, withWitness(unsigned, 0, [empty, first, first, script]));
    await rejectedByScript(bench, withWitness(unsigned, 0, [fromHex('01'), first, second, script]));
    await bench.send(withWitness(unsigned, 0, [empty, first, second, script]));
    await bench.mine(1);
  },

  'a delayed output: CHECKSEQUENCEVERIFY': async (bench) => {
    const delay = 6;
    const script = compileScript([
      OP.IF,
      publicKey(3),
      OP.ELSE,
      scriptNumber(delay),
      OP.CHECKSEQUENCEVERIFY,
      OP.DROP,
      publicKey(4),
      OP.ENDIF,
      OP.CHECKSIG,
    ]);
    const coin = await bench.fund(p2wshScript(script));
    const late = spend(coin, { sequence: delay });
    const early = spend(coin, { sequence: delay - 1 });
    const signed = (tx: Tx): Tx =>
      withWitness(tx, 0, [ecdsa(tx, coin, script, secret(4)), new Uint8Array(), script]);
    strictEqual(await bench.refusal(signed(late)), 'non-BIP68-final');
    await bench.mine(delay - 2);
    strictEqual(await bench.refusal(signed(late)), 'non-BIP68-final');
    await bench.mine(1);
    await rejectedByScript(bench, signed(early));
    // The branch selector must be minimal.
    const byOther = withWitness(late, 0, [ecdsa(late, coin, script, secret(3)), fromHex('02'), script]);
    await rejectedByScript(bench, byOther);
    await bench.send(signed(late));
    await bench.mine(1);
  },

  'an HTLC: CHECKLOCKTIMEVERIFY or preimage, SINGLE|ANYONECANPAY': async (bench) => {
    const expiry = (await bench.height()) + 20;
    const paymentHash = hash160(secret(9));
    const script = compileScript([
      ...[
        OP.SIZE,
        scriptNumber(32),
        OP.EQUAL,
        OP.IF,
        OP.HASH160,
        paymentHash,
        OP.EQUALVERIFY,
        publicKey(1),
        OP.CHECKSIG,
      ],
      ...[
        OP.ELSE,
        OP.DROP,
        scriptNumber(expiry),
        OP.CHECKLOCKTIMEVERIFY,
        OP.DROP,
        publicKey(2),
        OP.CHECKSIG,
        OP.ENDIF,
      ],
    ]);
    const coin = await bench.fund(p2wshScript(script));
    const bySecret = spend(coin);
    const type = SIGHASH.SINGLE_ANYONECANPAY;
    const claimed = withWitness(bySecret, 0, [
      ecdsa(bySecret, coin, script, secret(1), type),
      secret(9),
      script,
    ]);
    await rejectedByScript(
      bench,
      withWitness(bySecret, 0, [ecdsa(bySecret, coin, script, secret(1), type), secret(8), script]),
    );
    // SINGLE|ANYONECANPAY lets others add inputs and outputs: fees for an HTLC transaction.
    const extra = await bench.coin();
    const other = spendAnyone([extra], [extra.valueSat - 5000n]);
    const joined: Tx = {
      ...claimed,
      inputs: [...claimed.inputs, ...other.inputs],
      outputs: [...claimed.outputs, ...other.outputs],
    };
    strictEqual(await bench.refusal(joined), undefined);
    await rejectedByScript(bench, { ...joined, outputs: joined.outputs.toReversed() });
    const timeout = spend(coin, { locktime: expiry });
    const timedOut = withWitness(timeout, 0, [
      ecdsa(timeout, coin, script, secret(2)),
      new Uint8Array(),
      script,
    ]);
    strictEqual(await bench.refusal(timedOut), 'non-final');
    // A final locktime below the script's does not satisfy it.
    const early = spend(coin, { locktime: 1 });
    await rejectedByScript(
      bench,
      withWitness(early, 0, [ecdsa(early, coin, script, secret(2)), new Uint8Array(), script]),
    );
    await bench.mine(expiry - (await bench.height()));
    strictEqual(await bench.refusal(timedOut), undefined);
    await bench.send(joined);
    await bench.mine(1);
  },

  'taproot key path': async (bench) => {
    const coin = await bench.fund(p2trScript(taprootOutputKey(secp256k1, publicKey(7))));
    const tx = spend(coin);
    const spent = [
      { valueSat: coin.valueSat, script: p2trScript(taprootOutputKey(secp256k1, publicKey(7))) },
    ];
    const key = taprootOutputSecretKey(secp256k1, secret(7));
    const sign = (type: number): Uint8Array =>
      secp256k1.schnorrSign(taprootKeyPathSighash(tx, 0, spent, type), key, secret(1));
    await rejectedByScript(bench, withWitness(tx, 0, [sign(SIGHASH.ALL)]));
    await rejectedByScript(
      bench,
      withWitness(tx, 0, [Uint8Array.from([...sign(SIGHASH.ALL), SIGHASH.NONE])]),
    );
    strictEqual(
      await bench.refusal(
        withWitness(tx, 0, [
          Uint8Array.from([...sign(SIGHASH.SINGLE_ANYONECANPAY), SIGHASH.SINGLE_ANYONECANPAY]),
        ]),
      ),
      undefined,
    );
    await bench.send(withWitness(tx, 0, [sign(SIGHASH.DEFAULT)]));
    await bench.mine(1);
  },

  'pay to anchor': async (bench) => {
    const coin = await bench.fund(P2A_SCRIPT);
    const tx = withWitness(spend(coin), 0, []);
    // Derived nodes name the rule more closely.
    const refused = await bench.refusal(withWitness(tx, 0, [fromHex('01')]));
    ok(refused?.startsWith('bad-witness-') === true, `got ${refused}`);
    await bench.send(tx);
    await bench.mine(1);
  },
};
