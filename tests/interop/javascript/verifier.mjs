// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// The ordered verification ("Verification"), with pins as trust entries.
// Nothing is kept here: marks, bindings and what is revoked are the caller's.

import {
  FILE, KNOWN_HASHES, PUBLIC_KEY, REVOCATION, VERSION, VOLUME, Verdict, decodeRecord, decodeStatement, digest,
  digestLength, sameItem, sameTag, signedBytes, tag,
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

export const TREE_TYPES = [1];
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

/** fim-rev-3: the key is one of the items, under the hash of any of them. */
const keyRevoked = (items, spki) => items.some(
  ({ what, hash, digest: value }) => what === PUBLIC_KEY && digest(hash, spki).equals(value));

/** Steps 6 to 9: who signed, and the entries by which it is believed. */
function checkAttestation(
  { type, signature }, statement, volume, expected, trust, revoked, now, accepted,
) {
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
    covers(candidate, volume, expected.url)
    && (candidate.schemes.length === 0 || candidate.schemes.includes(scheme))
    && (certificate === null                                   // fim-trust-6
      || candidate.subject.every((part) => certificate.subject.includes(part))));
  if (entries.length === 0) {
    throw new Verdict(7, 'out-of-scope',
      `${certificate?.subject.join(',')} for ${volume.toString('hex')}`);
  }

  if (certificate === null) throw new Verdict(8, 'bad-certificate', 'not decodable');
  if (!fits(scheme, certificate.spki)) {                       // fim-sig-3
    throw new Verdict(8, 'bad-certificate', `no key for scheme ${scheme}`);
  }
  if (keyRevoked(revoked.items, certificate.spki)) {
    throw new Verdict(8, 'revoked', fingerprint);
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

/** Step 4 (fim-ext-2). */
export function checkExtensions({ extensions }) {
  for (const { critical, number } of extensions) {
    if (critical && !EXTENSIONS.includes(number)) {
      throw new Verdict(4, 'unknown-extension', `${number}`);
    }
  }
}

/** Step 5 for what the statement is about. */
function checkClaim({ kind, tree, items }, accepted) {
  if (kind === REVOCATION) {
    for (const { what, hash } of items) {                      // fim-rev-4
      if (what !== PUBLIC_KEY && what !== VERSION) {
        throw new Verdict(5, 'unsupported', `an item that names ${what}`);
      }
      if (what === PUBLIC_KEY) checkHash(5, hash);
    }
    return;
  }
  if (kind === VOLUME) return;
  if (!TREE_TYPES.includes(tree.type)) {
    throw new Verdict(5, 'unsupported', `tree type ${tree.type}`);
  }
  if (!accepted.unitLog2s.includes(tree.unitLog2)) {
    throw new Verdict(5, 'refused-algorithm', `unit_log2 ${tree.unitLog2}`);
  }
}

/** Step 11, and what of step 12 depends on the revocations accepted before. */
function checkVersion(claim, version, expected, trust, marks, revoked, now) {
  const { volume, kind, path = Buffer.alloc(0), generation } = claim;
  const taken = { what: VERSION, ...version };
  if (revoked.items.some((item) => sameItem(item, taken))) {
    throw new Verdict(11, 'revoked', version.digest.toString('hex'));
  }
  const headed = kind === FILE && trust.some((entry) => covers(entry, volume, expected.url)
    && marks(entry.anchor, volume, VOLUME, Buffer.alloc(0)).some(({ key }) => !keyRevoked(revoked.items, key)));
  if (headed) throw new Verdict(11, 'wrong-kind', 'the volume has a head');      // fim-head-2
  const items = [...revoked.items, ...(claim.items ?? [])];    // fim-rev-8
  const found = trust.filter((entry) => covers(entry, volume, expected.url))   // fim-mark-6
    .flatMap(({ anchor }) => marks(anchor, volume, kind, path))
    .filter(({ key }) => !keyRevoked(items, key));             // fim-mark-8
  for (const mark of found) {
    if (generation < mark.generation) {
      throw new Verdict(11, 'rollback', `${generation} < ${mark.generation}`);
    }
  }
  for (const mark of found) {
    if (generation === mark.generation && !sameTag(version, mark.tag)) {
      throw new Verdict(11, 'equivocation', version.digest.toString('hex'));
    }
  }
  const before = revoked.accepted.filter(({ key }) => !keyRevoked(items, key));
  if (kind === REVOCATION) {                                   // fim-rev-7
    for (const item of before.flatMap((one) => one.items)) {
      if (!claim.items.some((other) => sameItem(item, other))) {
        throw new Verdict(11, 'rollback', `without ${item.digest.toString('hex')}`);
      }
    }
  }
  if (claim.issued > now + SKEW) {                             // 12
    throw new Verdict(12, 'issued-in-future', `${claim.issued} > ${now} + ${SKEW}`);
  }
  const last = before.reduce((one, other) => (one.generation < other.generation ? other : one), { generation: -1n });
  for (const notAfter of [claim.notAfter, ...(kind !== REVOCATION && before.length ? [last.notAfter] : [])]) {
    if (now > notAfter) throw new Verdict(12, 'record-expired', `${now} > ${notAfter}`);      // fim-rev-12
  }
}

/**
 * Steps 0 to 12 (fim-ver-4).  expected: {volumes or null, path, url};
 * kind: FILE, or VOLUME or REVOCATION, which have no path;
 * marks: a function (anchor, volume, kind, path) that gives a list of {key,
 * generation, tag}; revoked: the items that count for the volume of the
 * record, and of each signer's key the latest revocation that was accepted,
 * {key, generation, notAfter, items}.  Throws a Verdict, or returns the
 * statement, its tag and its signers; raising marks by them is the caller's
 * (fim-mark-2).
 */
export function verifyRecord(data, expected, trust, at, {
  accepted = ALL, kind = FILE, marks = () => [], revoked = { items: [], accepted: [] },
} = {}) {
  const now = BigInt(at);
  if (data == null) throw new Verdict(0, 'unsigned');          // 0
  const record = decodeRecord(data);                           // 1
  const claim = decodeStatement(record.statement, kind);       // 1, 2
  if (expected.volumes && !has(expected.volumes, claim.volume)) {       // 3
    throw new Verdict(3, 'wrong-volume', claim.volume.toString('hex'));
  }
  if (kind === FILE && !claim.path.equals(expected.path)) {    // fim-path-5
    throw new Verdict(3, 'wrong-path', `${claim.path} instead of ${expected.path}`);
  }
  checkExtensions(claim);                                      // 4
  checkHash(5, claim.hash);                                    // 5
  if (!accepted.hashes.includes(claim.hash)) {
    throw new Verdict(5, 'refused-algorithm', `hash ${claim.hash}`);
  }
  checkClaim(claim, accepted);
  const signers = [];                                          // 6 to 9
  let furthest = null;
  for (const attestation of record.attestations) {             // fim-ver-5, fim-rec-3
    try {
      signers.push(checkAttestation(
        attestation, record.statement, claim.volume, expected, trust, revoked, now, accepted));
    } catch (verdict) {
      if (!(verdict instanceof Verdict)) throw verdict;
      if (furthest === null || verdict.step > furthest.step) furthest = verdict;
    }
  }
  if (signers.length === 0) throw furthest;                    // fim-ver-6
  const keys = new Set(signers.map(({ key }) => key));         // 10, fim-trust-8
  for (const entry of trust) {                                 // fim-trust-7
    if (covers(entry, claim.volume, expected.url) && keys.size < entry.signers) {
      throw new Verdict(10, 'too-few-signers', `${keys.size} of ${entry.signers}`);
    }
  }
  const version = tag(claim.hash, record.statement);           // 11, 12
  checkVersion(claim, version, expected, trust, marks, revoked, now);
  return { statement: claim, tag: version, signers };
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
