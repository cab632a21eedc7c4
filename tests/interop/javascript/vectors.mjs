// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// Runs the test vectors (spec/vectors, whose README.md has their form):
// node vectors.mjs FOLDER.  Says how many were run of each subject, and
// those that came out differently; exit 1 if there are any.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fim from './verifier.mjs';
import * as volumes from './volume.mjs';

const [folder] = process.argv.slice(2);
const load = (name) => JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));

/** Bytes: hexadecimal, or a recipe. */
function bytes(value) {
  if (typeof value === 'string') return Buffer.from(value, 'hex');
  if ('repeat' in value) return Buffer.alloc(Number(value.length), Buffer.from(value.repeat, 'hex'));
  if ('counting' in value) {
    const turn = Buffer.from(Array.from({ length: 251 }, (_, j) => (value.counting + j) % 251));
    return Number(value.length) ? Buffer.alloc(Number(value.length), turn) : turn.subarray(0, 0);
  }
  return Buffer.concat(value.pieces.map(bytes));
}

const CERTIFICATES = new Map(load('certificates').certificates.map(({ name, der }) => [name, bytes(der)]));
const cut = (content, length) =>
  Array.from({ length: Math.ceil(content.length / length) },
    (_, k) => content.subarray(k * length, (k + 1) * length));
const hash = (number) => (...parts) => fim.digest(number, ...parts);
const SKIPPED = Symbol('skipped');

function tree(given) {
  const H = hash(given.hash);
  if (given.of === 'name') {
    const [n, h, i] = [Number(given.units), given.level, Number(given.index)];
    const [level, index] = fim.canonical(n, h, i);
    return { first: `${i * 2 ** h}`, end: `${Math.min((i + 1) * 2 ** h, n)}`, canonical: { level, index: `${index}` } };
  }
  if (given.of === 'leaf') return { value: fim.leaf(H, bytes(given.unit)).toString('hex') };
  if (given.of === 'node') {
    return { value: fim.node(H, bytes(given.left), bytes(given.right)).toString('hex') };
  }
  if (!['file', 'levels', 'claim'].includes(given.of)) return SKIPPED;
  const leaves = cut(bytes({ counting: 0, length: given.size }), 2 ** given.unit_log2)
    .map((unit) => fim.leaf(H, unit));
  if (given.of === 'levels') {
    return { levels: new fim.Tree(H, leaves).levels.map((level) => level.map((value) => value.toString('hex'))) };
  }
  const root = fim.root(H, leaves).toString('hex');
  if (given.of === 'claim') return root === given.root ? 'ok' : 'mismatch';
  const units = fim.units(BigInt(given.size), given.unit_log2);
  return { units: `${units}`, height: fim.height(units), root };
}

function proof(given) {
  const H = hash(given.hash);
  const [n, a, b] = [given.n, given.first, given.end].map(Number);
  const parts = cut(bytes(given.proof), fim.digestLength(given.hash));
  const leaves = given.units.map((unit) => fim.leaf(H, bytes(unit)));
  try {
    return fim.verifyLeaves(H, n, a, b, given.level, bytes(given.value), leaves, parts) ? 'ok' : 'mismatch';
  } catch (error) {
    if (!(error instanceof fim.Refused)) throw error;
    return error.message === 'range' ? 'range' : 'length';
  }
}

function statement(given) {
  const found = fim.decodeStatement(bytes(given.bytes), given.wanted);
  return {
    ...(found.generation === undefined ? {} : { generation: `${found.generation}` }),
    ...(found.entries === undefined ? {} : { entries: `${found.entries}` }),
    ...(found.path ? { path: found.path.toString('hex') } : {}),
    ...(found.items ? { items: found.items.map((item) => ({ ...item, digest: item.digest.toString('hex') })) } : {}),
  };
}

function record(given) {
  fim.decodeRecord(bytes(given.bytes));
  return 'ok';
}

function signature({ certificate, scheme, message, value }) {
  const decoded = fim.decodeCertificate(CERTIFICATES.get(certificate));
  if (decoded === null || !fim.fits(scheme, decoded.spki)) return 'bad-certificate';
  return fim.signatureVerifies(scheme, decoded.spki, bytes(value), bytes(message)) ? 'ok' : 'bad-signature';
}

function verification(given) {
  if (given.trust.some((entry) => entry.ca)) return SKIPPED;
  const trust = given.trust.map((entry) => fim.pin(CERTIFICATES.get(entry.anchor), {
    ...entry,
    anchor: CERTIFICATES.get(entry.anchor),
    subject: (entry.subject ?? []).map(({ type, value }) => `${type}=${value}`),
    volumes: entry.volumes.map(bytes),
  }));
  const keyOf = (name) => fim.decodeCertificate(CERTIFICATES.get(name)).spki;
  const marks = (anchor, volume, kind, path) => given.marks
    .filter((mark) => trust[mark.entry].anchor.equals(anchor) && bytes(mark.volume).equals(volume)
      && mark.kind === kind && bytes(mark.path).equals(path))
    .map((mark) => ({
      key: keyOf(mark.signer), generation: BigInt(mark.generation),
      tag: { hash: mark.tag.hash, digest: bytes(mark.tag.digest) },
    }));
  const items = (list) => list.map((item) => ({ ...item, digest: bytes(item.digest) }));
  const revoked = {
    items: items(given.revoked.items),
    accepted: given.revoked.accepted.map((one) => ({
      key: keyOf(one.signer), generation: BigInt(one.generation), notAfter: BigInt(one.not_after),
      items: items(one.items),
    })),
  };
  const accepted = given.accepted && {
    hashes: given.accepted.hashes, schemes: given.accepted.schemes, unitLog2s: given.accepted.unit_log2s,
  };
  const { statement: file } = fim.verifyRecord(
    given.record === null ? null : bytes(given.record),
    { path: bytes(given.path), volumes: given.volumes?.map(bytes) ?? null, url: given.url },
    trust, given.now, { marks, revoked, kind: given.wanted, accepted: accepted ?? fim.ALL });
  if (given.content !== null) {
    const content = bytes(given.content);
    if (given.read === null) {
      fim.verifyContent(file, BigInt(content.length), (from, to) => content.subarray(Number(from), Number(to)));
    } else {
      const { n, root, length } = fim.shape(file);
      const first = Number(given.read.first);
      fim.verifyRange(file, first, first + Number(given.read.count), content,
        cut(bytes(given.read.proof), length), fim.height(n), root);
    }
  }
  return 'verified';
}

const shown = ({ parent, name, node }) => ({
  parent: parent.toString('hex'), name: name.toString('hex'),
  node: Object.fromEntries(Object.entries(node)
    .map(([key, value]) => [key, Buffer.isBuffer(value) ? value.toString('hex') : value])),
});

function range(given) {
  if (given.of === 'entry') {
    const data = bytes(given.bytes);
    return { entry: shown(volumes.decodeEntry(data)), leaf: fim.leaf(hash(1), data).toString('hex') };
  }
  const count = BigInt(given.entries);
  const folded = (value) => {
    const found = volumes.decodeRange(bytes(value));
    volumes.verifyEntries(given.hash, count, bytes(given.root), found);
    return found;
  };
  try {
    if (given.of === 'list') {
      const found = volumes.listing(count, given.ranges.map(folded), bytes(given.parent));
      return { names: found.map(({ name }) => name.toString('hex')) };
    }
    const found = folded(given.range);
    if (given.of === 'range') {
      return { paths: found.entries.map((entry) => volumes.pathOf(entry).toString('hex')) };
    }
    const entry = volumes.entryAt(count, found, volumes.placeOf(bytes(given.path)));
    return { entry: entry && shown(entry) };
  } catch (error) {
    if (error instanceof fim.Refused) return 'refused';
    throw error;
  }
}

function member(given) {
  if (given.of === 'exported') {
    volumes.verifyExported(bytes(given.bytes), {
      path: bytes(given.path), volumes: [bytes(given.volume)], url: null,
    }, [fim.pin(CERTIFICATES.get(given.pin))], given.now);
    return 'verified';
  }
  const head = bytes(given.head);
  const claim = fim.decodeStatement(head, fim.VOLUME);
  volumes.verifyMember(
    given.record === null ? null : bytes(given.record), bytes(given.path), { claim, tag: fim.tag(claim.hash, head) }, {
      accepted: given.accepted ? { ...fim.ALL, unitLog2s: given.accepted.unit_log2s } : fim.ALL,
      revoked: given.revoked.map((item) => ({ ...item, digest: bytes(item.digest) })),
    });
  return 'verified';
}

/** What a vector comes to: an outcome, or the output of one that is valid. */
function outcome(run, given) {
  try {
    return run(given);
  } catch (error) {
    if (error instanceof fim.Verdict) return error.verdict;
    if (error instanceof fim.Refused) return 'invalid';
    throw error;
  }
}

const fields = ({ when, path, items, entries }) => ({
  ...(when === undefined ? {} : { generation: when.generation }),
  ...(entries === undefined ? {} : { entries }),
  ...(path === undefined ? {} : { path: bytes(path).toString('hex') }),
  ...(items === undefined ? {} : { items: items.map((item) => ({ ...item, digest: bytes(item.digest).toString('hex') })) }),
});

/** What a vector says comes out, its bytes in hexadecimal where they are a recipe. */
function plain(value) {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(plain);
  if ('repeat' in value || 'counting' in value || 'pieces' in value) return bytes(value).toString('hex');
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]));
}

/** Whether all of `part` is in `whole`. */
const within = (part, whole) => Object.entries(part).every(([key, value]) =>
  JSON.stringify(value) === JSON.stringify(whole?.[key]));

let failures = 0;
for (const [subject, run] of Object.entries({
  tree, proof, statement, record, signature, verification, range, member,
})) {
  let count = 0;
  for (const vector of load(subject).vectors) {
    const needs = (vector.flags ?? []).some((flag) => /^needs-(hash-blake3|scheme-ml-dsa)/.test(flag))
      || (vector.input.hash !== undefined && !fim.KNOWN_HASHES.includes(vector.input.hash));
    const found = needs ? SKIPPED : outcome(run, vector.input);
    if (found === SKIPPED) continue;
    count += 1;
    const output = subject === 'statement'
      ? vector.output && fields(Object.values(vector.output.statement).find((part) => typeof part === 'object' && !Array.isArray(part)))
      : plain(vector.output);
    const good = typeof found === 'string'
      ? found === vector.outcome : vector.outcome === 'ok' && within(found, output);
    if (!good) {
      failures += 1;
      console.log(`${subject} ${vector.id}: ${JSON.stringify(found)} instead of ${vector.outcome}`);
    }
  }
  console.log(`${subject} ${count}`);
}
process.exitCode = failures ? 1 : 0;
