// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// Volumes ("Volumes"): entries, ranges of them, members and exported ones.
// A head is verified by verifyRecord with kind VOLUME; it is {claim, tag} here.

import {
  CONTENT, Reader, Verdict, VERSION, VOLUME, decodeRecord, decodeStatement, digest, digestLength,
  malformed, readMembership, readRange, sameTag, tag,
} from './record.mjs';
import { Refused, height, leaf, root, verifyLeaves } from './tree.mjs';
import { ALL, TREE_TYPES, checkExtensions, verifyRecord } from './verifier.mjs';

const slashless = (parent) => Buffer.from(parent.map((byte) => (byte === 0x2f ? 0 : byte)));

/** fim-vol-2: below, at or above, as of two places. */
export const comparePlaces = (one, other) =>
  Buffer.compare(slashless(one.parent), slashless(other.parent)) || Buffer.compare(one.name, other.name);

export const pathOf = ({ parent, name }) =>
  (parent.length ? Buffer.concat([parent, Buffer.from('/'), name]) : name);

/** The place of a path, which is not empty. */
export function placeOf(path) {
  const slash = path.lastIndexOf(0x2f);
  return slash < 0 ? { parent: Buffer.alloc(0), name: path }
    : { parent: path.subarray(0, slash), name: path.subarray(slash + 1) };
}

export function decodeEntry(bytes) {
  const reader = new Reader(bytes, 'entry');
  const range = readRange(reader, true);
  reader.end();
  return range;
}

export function decodeRange(bytes) {
  const reader = new Reader(bytes, 'range');
  const range = readRange(reader);
  reader.end();
  return range;
}

/** fim-range-1: Refused, mismatch or malformed, or the range is of the volume with so many entries and this root. */
export function verifyEntries(hash, count, signed, { first, entries, proof }) {
  const H = (...parts) => digest(hash, ...parts);
  const length = digestLength(hash);
  const mismatch = () => { throw new Verdict(13, 'mismatch', 'entries'); };
  if (entries.length === 0) {
    if (count !== 0n || first !== 0n || proof.length) throw new Refused('range');
    if (!root(H, []).equals(signed)) mismatch();
    return;
  }
  if (first + BigInt(entries.length) > count || proof.length % length) throw new Refused('range');
  const [n, a] = [Number(count), Number(first)];
  const hashes = Array.from({ length: proof.length / length }, (_, k) => proof.subarray(k * length, (k + 1) * length));
  const leaves = entries.map(({ encoded }) => leaf(H, encoded));          // fim-vol-1
  if (!verifyLeaves(H, n, a, a + entries.length, height(n), signed, leaves, hashes)) mismatch();
  entries.forEach((entry, k) => {
    if (k > 0 && comparePlaces(entries[k - 1], entry) >= 0) malformed('entries are out of order');   // fim-range-2
    if (entry.node.type === 1 && entry.node.content.length !== length) malformed('a digest of another length');
  });
}

/** fim-range-3: what a range that was verified shows at a place; null if there is nothing. */
export function entryAt(count, { first, entries }, place) {
  const at = entries.findIndex((entry) => comparePlaces(entry, place) >= 0);
  if (at < 0) {
    if (first + BigInt(entries.length) < count) throw new Refused('ends before it');
    return null;
  }
  if (comparePlaces(entries[at], place) === 0) return entries[at];
  if (at === 0 && first > 0n) throw new Refused('begins behind it');
  return null;
}

/** fim-range-4: all of a directory, by ranges that were verified. */
export function listing(count, ranges, parent) {
  if (ranges.length === 0) throw new Refused('no range');
  const { first } = ranges[0];
  const all = [...ranges[0].entries];
  for (const next of ranges.slice(1)) {
    const known = Number(next.first - first);
    if (known < 0 || known > all.length) throw new Refused('a gap');
    all.splice(known, all.length, ...next.entries);
  }
  const low = { parent, name: Buffer.alloc(0) };
  if (first > 0n && comparePlaces(all[0], low) > 0) throw new Refused('begins behind it');
  const behind = all.filter((entry) => comparePlaces(entry, low) > 0);
  const found = behind.filter((entry) => entry.parent.equals(parent));
  if (found.length === behind.length && first + BigInt(all.length) < count) throw new Refused('ends before it');
  return found;
}

/** fim-member-1: the record of the file at a path, under a head {claim, tag} that is verified. */
export function verifyMember(data, path, head, { accepted = ALL, revoked = [] } = {}) {
  if (data == null) throw new Verdict(0, 'unsigned');                      // 0
  const record = decodeRecord(data);                                       // 1
  const claim = decodeStatement(record.statement, CONTENT);                // 1, 2
  const attestation = record.attestations.find(({ type }) => type === 2);  // 3
  if (!attestation) throw new Verdict(3, 'not-member', 'no membership');
  const { head: named, range } = attestation.membership;
  if (!sameTag(named, head.tag)) throw new Verdict(3, 'other-head');
  const [entry] = range.entries;
  if (!pathOf(entry).equals(path)) throw new Verdict(3, 'wrong-path', `${pathOf(entry)}`);
  if (entry.node.type !== 1) throw new Verdict(3, 'wrong-kind', 'no file');
  checkExtensions(claim);                                                  // 4
  if (claim.hash !== head.tag.hash) throw new Verdict(5, 'not-member', 'another hash');   // 5
  if (!TREE_TYPES.includes(claim.tree.type)) throw new Verdict(5, 'unsupported', 'tree type');
  if (!accepted.unitLog2s.includes(claim.tree.unitLog2)) throw new Verdict(5, 'refused-algorithm', 'unit');
  try {                                                                    // 9
    verifyEntries(claim.hash, head.claim.entries, head.claim.root, range);
  } catch (error) {
    if (error instanceof Refused || error.verdict === 'mismatch') throw new Verdict(9, 'not-member', 'range');
    throw error;
  }
  const version = tag(claim.hash, record.statement);
  if (!entry.node.content.equals(version.digest)) throw new Verdict(9, 'not-member', 'another content');
  if (revoked.some((item) => item.what === VERSION && sameTag(item, version))) {           // 11
    throw new Verdict(11, 'revoked');
  }
  return { statement: claim, tag: version, executable: entry.node.executable };            // fim-member-2
}

/** fim-export-2; options are those of verifyRecord. */
export function verifyExported(data, expected, trust, at, options = {}) {
  if (data == null) throw new Verdict(0, 'unsigned');
  const reader = new Reader(data, 'exported member');                      // fim-export-1
  const [record, head] = [reader.opaque(65536), reader.opaque(65536)];
  reader.end();
  const found = verifyRecord(head, expected, trust, at, { ...options, kind: VOLUME });
  return verifyMember(record, expected.path, { claim: found.statement, tag: found.tag }, {
    accepted: options.accepted, revoked: options.revoked?.items,
  });
}
