// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// Record, statement and hashes of "File Integrity Metadata", format 1.
// Ids such as fim-dec-1 are those of the draft's sentences.

import { createHash } from 'node:crypto';

/** What verification ends with, unless it is "verified" (the table of verdicts). */
export class Verdict extends Error {
  constructor(step, name, detail = '') {
    super(detail ? `${name}: ${detail}` : name);
    this.step = step;
    this.verdict = name;
    this.detail = detail;
  }
}

export const malformed = (what) => { throw new Verdict(1, 'malformed', what); };

// The table of hashes.  Lengths are checked for all that are listed; without a node
// name the hash is not known here.
const HASHES = new Map([
  [1, { node: 'sha256', length: 32 }],
  [7, { node: 'sha384', length: 48 }],
  [8, { node: 'sha512', length: 64 }],
  [10, { node: 'sha3-256', length: 32 }],
  [11, { node: 'sha3-384', length: 48 }],
  [12, { node: 'sha3-512', length: 64 }],
  [65536, { node: null, length: 32 }],            // BLAKE3
]);

export const KNOWN_HASHES =
  [...HASHES].filter(([, hash]) => hash.node).map(([number]) => number);

export const digestLength = (number) => HASHES.get(number)?.length;

/** The digest of the parts, joined, under a known hash (fim-hash-4). */
export function digest(number, ...parts) {
  const hash = createHash(HASHES.get(number).node);
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** A strict reader of XDR (fim-dec-3: lengths before memory). */
export class Reader {
  constructor(bytes, name) {
    this.bytes = bytes;
    this.at = 0;
    this.name = name;
  }

  left() { return this.bytes.length - this.at; }

  fixed(length) {
    if (length > this.left()) malformed(`${this.name} is cut short`);
    const part = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return part;
  }

  u32() { return this.fixed(4).readUInt32BE(); }

  u64() { return this.fixed(8).readBigUInt64BE(); }

  i64() { return this.fixed(8).readBigInt64BE(); }

  bool() {
    const value = this.u32();
    if (value > 1) malformed('a bool is neither 0 nor 1');
    return value === 1;
  }

  opaque(bound) {
    const length = this.u32();
    if (length > bound) malformed(`a length is above ${bound}`);
    const value = this.fixed(length);
    if (this.fixed(-length & 3).some((byte) => byte !== 0)) {
      malformed('padding is not zero');
    }
    return value;
  }

  /** A count of items, each of which takes at least so many bytes. */
  count(bound, least) {
    const count = this.u32();
    if (count > bound) malformed(`a count is above ${bound}`);
    if (count * least > this.left()) malformed(`${this.name} is cut short`);
    return count;
  }

  end() { if (this.left() > 0) malformed(`bytes follow the ${this.name}`); }
}

/** A digest whose length fits its hash, where that is listed. */
function sized(hash, value) {
  const length = digestLength(hash);
  if (length !== undefined && value.length !== length) {
    malformed(`a digest of hash ${hash} has ${value.length} bytes`);
  }
  return value;
}

/** fim-path-2: a name. */
export function isName(bytes) {
  return bytes.length >= 1 && bytes.length <= 255
    && !bytes.includes(0x00) && !bytes.includes(0x2f)
    && !bytes.equals(Buffer.from('.')) && !bytes.equals(Buffer.from('..'));
}

/** fim-path-3, fim-path-4: a path of a file. */
export function isPath(bytes) {
  if (bytes.length > 4095) return false;
  let names = 0;
  for (let start = 0; start <= bytes.length; names += 1) {
    let end = bytes.indexOf(0x2f, start);
    if (end < 0) end = bytes.length;
    if (!isName(bytes.subarray(start, end))) return false;
    start = end + 1;
  }
  return names <= 256;
}

function decodeSignature(body) {
  const reader = new Reader(body, 'signature');
  const hash = reader.u32();
  const signer = { hash, digest: sized(hash, reader.opaque(64)) };
  const scheme = reader.u32();
  const value = reader.opaque(8192);
  reader.end();
  return { signer, scheme, value };
}

/** An entry of a volume, with the bytes it was read from. */
function readEntry(reader) {
  const start = reader.at;
  const entry = { parent: reader.opaque(4095), name: reader.opaque(255) };
  const path = entry.parent.length ? Buffer.concat([entry.parent, Buffer.from('/'), entry.name]) : entry.name;
  if (!isName(entry.name) || !isPath(path)) malformed('path of an entry');
  const type = reader.u32();
  if (type === 1) {
    entry.node = { type, executable: reader.bool(), content: reader.opaque(64) };
  } else if (type === 2) {
    entry.node = { type, target: reader.opaque(4095) };
    if (entry.node.target.length === 0 || entry.node.target.includes(0)) malformed('target');
  } else if (type === 3) {
    entry.node = { type };
  } else {
    malformed(`an entry of type ${type}`);
  }
  entry.encoded = reader.bytes.subarray(start, reader.at);
  return entry;
}

/** A fim_range; or one entry alone. */
export function readRange(reader, alone = false) {
  if (alone) return readEntry(reader);
  const first = reader.u64();
  const count = reader.count(1024, 16);
  const entries = [];
  while (entries.length < count) entries.push(readEntry(reader));
  return { first, entries, proof: reader.opaque(8192) };
}

export function readMembership(body) {
  const reader = new Reader(body, 'membership');
  const hash = reader.u32();
  const head = { hash, digest: sized(hash, reader.opaque(64)) };
  const range = readRange(reader);
  reader.end();
  if (range.entries.length !== 1) malformed('a membership has one entry');
  return { head, range };
}

/** Step 1 for the record, the bodies of types 1 and 2 included (fim-dec-4). */
export function decodeRecord(bytes) {
  if (bytes.length > 65536) malformed('above 65,536 bytes');   // fim-dec-2
  const reader = new Reader(bytes, 'record');
  const statement = reader.opaque(8192);
  const attestations = [];
  const count = reader.count(8, 8);
  if (count === 0) malformed('no attestation');                // fim-rec-1
  for (let k = 0; k < count; k += 1) {
    const attestation = { type: reader.u32(), body: reader.opaque(61440) };
    const last = attestations[k - 1];
    if (last && (attestation.type - last.type
        || Buffer.compare(attestation.body, last.body)) <= 0) {
      malformed('attestations are out of order');              // fim-rec-2
    }
    attestations.push(attestation);
  }
  reader.end();
  if (attestations.filter(({ type }) => type === 2).length > 1) malformed('two memberships');   // fim-rec-9
  for (const attestation of attestations) {
    if (attestation.type === 1) {                              // fim-rec-5
      attestation.signature = decodeSignature(attestation.body);
    } else if (attestation.type === 2) {
      attestation.membership = readMembership(attestation.body);
    }
  }
  return { statement, attestations };
}

export const CONTENT = 1;
export const FILE = 2;
export const VOLUME = 3;
export const REVOCATION = 4;
export const PUBLIC_KEY = 1;      // what an item names
export const VERSION = 2;

const readWhen = (reader) => {
  const generation = reader.u64();
  if (generation === 2n ** 64n - 1n) malformed('generation');
  return { generation, issued: reader.i64(), notAfter: reader.i64() };
};

/** fim-rev-2: by what, hash and digest. */
const rank = (one, other) =>
  one.what - other.what || one.hash - other.hash || Buffer.compare(one.digest, other.digest);

function readItems(reader) {
  const items = [];
  const count = reader.count(128, 12);
  for (let k = 0; k < count; k += 1) {
    const item = { what: reader.u32(), hash: reader.u32() };
    item.digest = sized(item.hash, reader.opaque(64));
    if (k > 0 && rank(items[k - 1], item) >= 0) malformed('items are out of order');
    items.push(item);
  }
  return items;
}

function readFile(reader, statement) {
  statement.path = reader.opaque(4095);
  if (!isPath(statement.path)) malformed('path');
  Object.assign(statement, readWhen(reader));
  statement.executable = reader.bool();
  readContent(reader, statement);
}

function readContent(reader, statement) {
  statement.mtime = { seconds: reader.i64(), nseconds: reader.u32() };
  if (statement.mtime.nseconds > 999999999) malformed('nseconds');
  const tree = { type: reader.u32(), unitLog2: reader.u32() };
  if (tree.unitLog2 < 12 || tree.unitLog2 > 24) malformed('unit_log2');
  tree.size = reader.u64();
  if (tree.size > 2n ** 63n - 1n) malformed('size');
  tree.root = sized(statement.hash, reader.opaque(64));
  statement.tree = tree;
}

export const sameItem = (one, other) => rank(one, other) === 0;

/** Steps 1 and 2 for the statement (fim-dec-5, fim-kind-2). */
export function decodeStatement(bytes, wanted = FILE) {
  if (bytes.length > 8192) malformed('above 8,192 bytes');
  const reader = new Reader(bytes, 'statement');
  if (reader.u32() !== 0x4e465356) malformed('magic');
  const format = reader.u32();
  if (format !== 1) throw new Verdict(1, 'unsupported', `format ${format}`);
  const hash = reader.u32();
  const kind = reader.u32();
  if (kind < 1 || kind > 4) malformed(`kind ${kind}`);
  if (kind !== wanted) {                                       // fim-kind-1, fim-kind-3
    throw new Verdict(2, 'wrong-kind', `kind ${kind} instead of ${wanted}`);
  }
  const statement = { hash, kind };
  if (kind !== CONTENT) {
    statement.volume = reader.fixed(16);
    statement.label = reader.opaque(255);
    if (!isName(statement.label)) malformed('label');          // fim-path-8
  }
  if (kind === CONTENT) {
    readContent(reader, statement);
  } else if (kind === VOLUME) {
    Object.assign(statement, readWhen(reader));
    statement.entries = reader.u64();
    if (statement.entries > 2n ** 63n - 1n) malformed('entries');
    statement.root = sized(hash, reader.opaque(64));
  } else if (kind === REVOCATION) {
    Object.assign(statement, readWhen(reader));
    statement.items = readItems(reader);
  } else {
    readFile(reader, statement);
  }
  statement.extensions = [];
  const count = reader.count(16, 12);
  for (let k = 0; k < count; k += 1) {
    const extension = {
      number: reader.u32(), critical: reader.bool(), value: reader.opaque(1024),
    };
    if (k > 0 && extension.number <= statement.extensions[k - 1].number) {
      malformed('extensions are out of order');                // fim-ext-1
    }
    statement.extensions.push(extension);
  }
  reader.end();
  return statement;
}

export function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export const opaque = (bytes) =>
  Buffer.concat([uint32(bytes.length), bytes, Buffer.alloc(-bytes.length & 3)]);

const CONTEXT = Buffer.from(
  `${' '.repeat(64)}File Integrity Metadata, statement, format 1\0`);

/** The bytes a signature is made over (fim-signed-1, fim-signed-2). */
export const signedBytes = (signer, scheme, statement) => Buffer.concat([
  CONTEXT, uint32(signer.hash), opaque(signer.digest), uint32(scheme),
  opaque(statement)]);

/** The tag, over the bytes as received (fim-st-1, fim-tag-1). */
export const tag = (hash, statement) =>
  ({ hash, digest: digest(hash, statement) });

export const sameTag = (one, other) =>
  one.hash === other.hash && one.digest.equals(other.digest);
