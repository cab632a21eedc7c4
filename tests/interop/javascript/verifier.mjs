// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// The ordered verification ("Verification"), with pins as trust entries.
// Nothing is kept here: marks and bindings are the caller's.

import {
  KNOWN_HASHES, Verdict, decodeRecord, decodeStatement, digest, digestLength, sameTag,
  signedBytes, tag,
} from './record.mjs';
import {
  KNOWN_SCHEMES, decodeCertificate, fits, signatureVerifies,
} from './certificate.mjs';
import {
  checkProof, leaf, root, units, verifyLeaves,
} from './tree.mjs';

export * from './record.mjs';
export * from './certificate.mjs';
export * from './tree.mjs';

const TREE_TYPES = [1];
const EXTENSIONS = [];            // none is defined
const SKEW = 300n;
const DOCUMENT_SIGNING = '1.3.6.1.5.5.7.3.36';

/** All that is implemented (fim-hash-1, fim-sig-1, fim-unit-2). */
export const ALL = {
  hashes: KNOWN_HASHES, schemes: KNOWN_SCHEMES,
  unitLog2s: [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24],
};

/** A trust entry that pins a certificate in DER; URLs are in the form that the draft gives them. */
export function pin(anchor, limits = {}) {
  const entry = {
    anchor, subject: [], volumes: [], prefixes: [], schemes: [], signers: 1, ...limits,
  };
  if (!(entry.signers >= 1)) throw new RangeError('signers is at least 1');
  return entry;
}

const has = (list, bytes) => list.some((other) => other.equals(bytes));

/** fim-trust-3: at a URL, or below it by whole segments. */
const below = (url, prefix) =>
  url === prefix || url.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`);

const coversPlace = (entry, url) => entry.prefixes.length === 0
  || (url != null && entry.prefixes.some((prefix) => below(url, prefix)));

export const covers = (entry, volume, url) =>                  // fim-trust-4
  (entry.volumes.length === 0 || has(entry.volumes, volume)) && coversPlace(entry, url);

/** The expected volume IDs, or null for any. */
export function expectedVolumes(named, trust, url, bound) {
  if (named) return [named];
  const entries = trust.filter((entry) => coversPlace(entry, url));
  if (entries.length && entries.every((entry) => entry.volumes.length)) {
    return entries.flatMap((entry) => entry.volumes);
  }
  return bound ? [bound] : null;
}

/** fim-hash-3. */
function checkHash(step, number) {
  if (number >= 2 && number <= 6) throw new Verdict(step, 'refused-algorithm', `hash ${number}`);
  if (!KNOWN_HASHES.includes(number)) throw new Verdict(step, 'unsupported', `hash ${number}`);
}

/** Steps 6 to 9: who signed, and the entries by which it is believed. */
function checkAttestation({ type, signature }, statement, file, expected, trust, now, accepted) {
  if (type !== 1) throw new Verdict(6, 'unsupported', `attestation type ${type}`);
  const { signer, scheme, value } = signature;
  if (!KNOWN_SCHEMES.includes(scheme)) throw new Verdict(6, 'unsupported', `scheme ${scheme}`);
  checkHash(6, signer.hash);
  if (!accepted.schemes.includes(scheme)) {
    throw new Verdict(6, 'refused-algorithm', `scheme ${scheme}`);
  }

  const fingerprint = signer.digest.toString('hex');
  const candidates = trust.filter(                             // fim-cert-1, fim-rec-8
    (entry) => digest(signer.hash, entry.anchor).equals(signer.digest));
  if (candidates.length === 0) throw new Verdict(7, 'untrusted', fingerprint);
  const certificate = decodeCertificate(candidates[0].anchor);
  const entries = candidates.filter((candidate) =>
    covers(candidate, file.volume, expected.url)
    && (candidate.schemes.length === 0 || candidate.schemes.includes(scheme))
    && (certificate === null                                   // fim-trust-6
      || candidate.subject.every((part) => certificate.subject.includes(part))));
  if (entries.length === 0) {
    throw new Verdict(7, 'out-of-scope',
      `${certificate?.subject.join(',')} for ${file.volume.toString('hex')}`);
  }

  if (certificate === null) throw new Verdict(8, 'bad-certificate', 'not decodable');
  if (!fits(scheme, certificate.spki)) {                       // fim-sig-3
    throw new Verdict(8, 'bad-certificate', `no key for scheme ${scheme}`);
  }
  if (now < certificate.notBefore) {                           // fim-cert-4
    throw new Verdict(8, 'not-yet-valid', `${now} < ${certificate.notBefore}`);
  }
  if (now > certificate.notAfter) {
    throw new Verdict(8, 'expired', `${now} > ${certificate.notAfter}`);
  }
  if (!certificate.digitalSignature) {                         // fim-cert-5
    throw new Verdict(8, 'wrong-usage', 'digitalSignature');
  }
  if (certificate.purposes && !certificate.purposes.includes(DOCUMENT_SIGNING)) {
    throw new Verdict(8, 'wrong-usage', 'documentSigning');    // fim-cert-6, fim-cert-8
  }
  if (!signatureVerifies(scheme, certificate.spki, value,
    signedBytes(signer, scheme, statement))) {
    throw new Verdict(9, 'bad-signature', fingerprint);
  }
  return { entries, key: certificate.spki.toString('hex'), fingerprint };
}

/**
 * Steps 0 to 12 (fim-ver-4).  expected: {volumes or null, path, url};
 * marks: a function (anchor, volume, path) that gives {generation, tag}
 * or nothing.  Throws a Verdict, or returns the statement, its tag and
 * its signers; raising marks by them is the caller's (fim-mark-2).
 */
export function verifyRecord(data, expected, trust, at, { accepted = ALL, marks = () => null } = {}) {
  const now = BigInt(at);
  if (data == null) throw new Verdict(0, 'unsigned');          // 0
  const record = decodeRecord(data);                           // 1
  const file = decodeStatement(record.statement);              // 1, 2
  if (expected.volumes && !has(expected.volumes, file.volume)) {        // 3
    throw new Verdict(3, 'wrong-volume', file.volume.toString('hex'));
  }
  if (!file.path.equals(expected.path)) {                      // fim-path-5
    throw new Verdict(3, 'wrong-path', `${file.path} instead of ${expected.path}`);
  }
  for (const { critical, number } of file.extensions) {        // 4, fim-ext-2
    if (critical && !EXTENSIONS.includes(number)) {
      throw new Verdict(4, 'unknown-extension', `${number}`);
    }
  }
  checkHash(5, file.hash);                                     // 5
  if (!accepted.hashes.includes(file.hash)) {
    throw new Verdict(5, 'refused-algorithm', `hash ${file.hash}`);
  }
  if (!TREE_TYPES.includes(file.tree.type)) {
    throw new Verdict(5, 'unsupported', `tree type ${file.tree.type}`);
  }
  if (!accepted.unitLog2s.includes(file.tree.unitLog2)) {
    throw new Verdict(5, 'refused-algorithm', `unit_log2 ${file.tree.unitLog2}`);
  }
  const signers = [];                                          // 6 to 9
  let furthest = null;
  for (const attestation of record.attestations) {             // fim-ver-5, fim-rec-3
    try {
      signers.push(checkAttestation(
        attestation, record.statement, file, expected, trust, now, accepted));
    } catch (verdict) {
      if (!(verdict instanceof Verdict)) throw verdict;
      if (furthest === null || verdict.step > furthest.step) furthest = verdict;
    }
  }
  if (signers.length === 0) throw furthest;                    // fim-ver-6
  const keys = new Set(signers.map(({ key }) => key));         // 10, fim-trust-8
  for (const entry of trust) {                                 // fim-trust-7
    if (covers(entry, file.volume, expected.url) && keys.size < entry.signers) {
      throw new Verdict(10, 'too-few-signers', `${keys.size} of ${entry.signers}`);
    }
  }
  const version = tag(file.hash, record.statement);            // 11
  const found = trust.filter((entry) => covers(entry, file.volume, expected.url))   // fim-mark-6
    .map(({ anchor }) => marks(anchor, file.volume, file.path)).filter(Boolean);
  for (const mark of found) {
    if (file.generation < mark.generation) {
      throw new Verdict(11, 'rollback', `${file.generation} < ${mark.generation}`);
    }
  }
  for (const mark of found) {
    if (file.generation === mark.generation && !sameTag(version, mark.tag)) {
      throw new Verdict(11, 'equivocation', version.digest.toString('hex'));
    }
  }
  if (file.issued > now + SKEW) {                              // 12
    throw new Verdict(12, 'issued-in-future', `${file.issued} > ${now} + ${SKEW}`);
  }
  if (now > file.notAfter) {
    throw new Verdict(12, 'record-expired', `${now} > ${file.notAfter}`);
  }
  return { statement: file, tag: version, signers };
}

const mismatch = (detail, ranges = []) =>
  Object.assign(new Verdict(13, 'mismatch', detail), { ranges });

/** What the tree of a verified statement needs (fim-proof-6). */
export function shape({ hash, tree }) {
  return {
    H: (...parts) => digest(hash, ...parts), n: units(tree.size, tree.unitLog2),
    unit: 2 ** tree.unitLog2, size: tree.size, root: tree.root, length: digestLength(hash),
  };
}

/**
 * Step 13 for whole content of so many bytes, which read(from, to) gives.
 * leaves, if given, are believed once they fold to the signed root; the
 * mismatch then has the ranges of bytes concerned, one per unit.
 * Returns the leaf values: as many as the content, not the statement, has
 * units (fim-read-4).
 */
export function verifyContent(statement, length, read, leaves = null) {
  const { H, n, unit, size, root: signed } = shape(statement);
  const located = leaves?.length === n && root(H, leaves).equals(signed);
  const values = [];
  const ranges = [];
  for (let j = 0; j < n; j += 1) {
    const from = BigInt(j) * BigInt(unit);
    if (from >= length) {                                      // nothing is left
      ranges.push([from, size]);
      break;
    }
    const to = from + BigInt(unit) < size ? from + BigInt(unit) : size;
    values.push(leaf(H, read(from, to)));                      // fim-proof-5
    if (located && !values[j].equals(leaves[j])) ranges.push([from, to]);
  }
  if (length !== size) {                                       // fim-proof-9
    if (length > size) ranges.push([size, length]);
    throw mismatch(`content has ${length} bytes instead of ${size}`, ranges);
  }
  const found = root(H, values);                               // fim-proof-7, fim-proof-8
  if (!found.equals(signed)) {
    throw mismatch(`root ${found.toString('hex')}, signed ${signed.toString('hex')}`, ranges);
  }
  return values;
}

/**
 * Step 13 for units [a, b), whose bytes are data, with a proof under the
 * node of level h that has the verified value expected.
 */
export function verifyRange(statement, a, b, data, proof, h, expected) {
  const { H, n, unit, size, length } = shape(statement);
  checkProof(n, a, b, h, proof, length);                       // fim-proof-4
  const from = BigInt(a) * BigInt(unit);
  const to = BigInt(b) * BigInt(unit) < size ? BigInt(b) * BigInt(unit) : size;
  if (BigInt(data.length) !== to - from) {                     // fim-proof-9
    throw mismatch(`${data.length} bytes instead of ${to - from}`, [[from, to]]);
  }
  const leaves = [];
  for (let at = 0; at < data.length; at += unit) {
    leaves.push(leaf(H, data.subarray(at, at + unit)));
  }
  if (!verifyLeaves(H, n, a, b, h, expected, leaves, proof)) {
    throw mismatch('units and proof do not fold to the expected value', [[from, to]]);
  }
}
