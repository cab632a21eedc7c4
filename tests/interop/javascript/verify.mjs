// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// Verifies a local file, or some units of it with a proof, against a record.

import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  Refused, Tree, Verdict, height, pin, prove, shape, verifyContent, verifyRange, verifyRecord,
} from './verifier.mjs';

const USAGE = `node verify.mjs --record FILE --data FILE --cert PEM --volume HEX --path PATH
    [--now SECONDS] [--leaves FILE]    the whole file
    [--units A:B --proof FILE]         data has the bytes of the units only
    [--units A:B --prove FILE]         writes the proof, once the file is verified
Exit: 0 verified, 1 another verdict, 2 anything else.
`;

/** The bytes of the first certificate of a PEM file, as they are. */
function pem(path) {
  const found = /-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----/
    .exec(readFileSync(path, 'latin1'));
  if (!found) throw new Error(`${path} has no certificate`);
  return Buffer.from(found[1], 'base64');
}

/** The hashes of a file that is nothing but hashes. */
function hashes(path, length) {
  const bytes = readFileSync(path);
  if (bytes.length % length) throw new Refused(`${path} does not consist of whole hashes`);
  return Array.from({ length: bytes.length / length },
    (_, k) => bytes.subarray(k * length, (k + 1) * length));
}

/** Reads the bytes [from, to) of an open file, or what there is of them. */
function part(file, from, to) {
  const bytes = Buffer.alloc(Number(to - from));
  let got = 0;
  let more;
  do {
    more = readSync(file, bytes, got, bytes.length - got, from + BigInt(got));
    got += more;
  } while (more > 0 && got < bytes.length);
  return bytes.subarray(0, got);
}

function content(statement, path, leaves) {
  const file = openSync(path, 'r');
  try {
    return verifyContent(statement, fstatSync(file, { bigint: true }).size,
      (from, to) => part(file, from, to), leaves);
  } finally {
    closeSync(file);
  }
}

function run(options) {
  const record = existsSync(options.record ?? '') ? readFileSync(options.record) : null;
  const expected = {
    volumes: [Buffer.from(options.volume, 'hex')], path: Buffer.from(options.path), url: null,
  };
  const trust = options.cert.map((path) => pin(pem(path)));
  const now = options.now ?? Math.floor(Date.now() / 1000);
  const { statement, signers } = verifyRecord(record, expected, trust, now);
  const { H, n, root, length } = shape(statement);
  const [a, b] = (options.units ?? '').split(':').map(Number);
  if (options.proof) {
    verifyRange(statement, a, b, readFileSync(options.data), hashes(options.proof, length),
      height(n), root);
  } else {
    const leaves = content(statement, options.data,
      options.leaves ? hashes(options.leaves, length) : null);
    if (options.prove) {
      writeFileSync(options.prove, Buffer.concat(prove(new Tree(H, leaves), n, a, b, height(n))));
    }
  }
  console.log('verified');                                     // fim-ver-10
  console.log(`volume ${statement.volume.toString('hex')}`);
  console.log(`generation ${statement.generation}`);
  for (const { fingerprint } of signers) console.log(`signer ${fingerprint}`);
}

const text = { type: 'string' };
try {
  const { values } = parseArgs({
    options: {
      record: text, data: text, cert: { ...text, multiple: true }, volume: text, path: text,
      now: text, leaves: text, units: text, proof: text, prove: text,
    },
  });
  if (!values.data || !values.cert || values.path === undefined
      || !/^[0-9a-f]{32}$/i.test(values.volume) || !/^-?\d+$/.test(values.now ?? '0')) {
    throw new Error(USAGE);
  }
  run(values);
} catch (error) {
  if (error instanceof Verdict) {                              // fim-ver-9
    console.log(error.message);
    for (const [from, to] of error.ranges ?? []) console.log(`bytes [${from}, ${to})`);
    process.exitCode = 1;
  } else {
    console.error(error instanceof Refused ? `refused: ${error.message}` : error.message);
    process.exitCode = 2;
  }
}
