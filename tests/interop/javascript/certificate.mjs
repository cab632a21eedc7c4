// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// Certificates and signatures ("Signature Schemes", "Certificates"), for pins.

import { constants, createPublicKey, verify } from 'node:crypto';

/** Reads DER: tags of one byte and the shortest lengths; throws at anything else. */
class Der {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  done() { return this.at === this.bytes.length; }

  byte() {
    if (this.done()) throw new Error('DER is cut short');
    return this.bytes[this.at++];
  }

  next() {
    const start = this.at;
    const tag = this.byte();
    if ((tag & 0x1f) === 0x1f) throw new Error('a long tag');
    let length = this.byte();
    if (length >= 0x80) {
      const count = length & 0x7f;
      length = 0;
      for (let k = 0; k < count; k += 1) length = length * 256 + this.byte();
      if (count === 0 || length < Math.max(0x80, 256 ** (count - 1))) {
        throw new Error('a length that is not the shortest');
      }
    }
    const from = this.at;
    this.at += length;
    if (this.at > this.bytes.length) throw new Error('DER is cut short');
    return {
      tag, body: this.bytes.subarray(from, this.at), raw: this.bytes.subarray(start, this.at),
    };
  }

  peek() { return this.done() ? -1 : this.bytes[this.at]; }

  /** The body of the next element, which has this tag. */
  expect(tag) {
    const element = this.next();
    if (element.tag !== tag) throw new Error(`tag ${element.tag}`);
    return element.body;
  }

  end() { if (!this.done()) throw new Error('bytes follow'); }
}

/** The one element of that tag in bytes, and nothing else. */
function only(bytes, tag) {
  const der = new Der(bytes);
  const body = der.expect(tag);
  der.end();
  return body;
}

/** A positive INTEGER in its shortest form. */
function natural(body) {
  if (body.length === 0 || body[0] >= 0x80
      || (body.length > 1 && body[0] === 0 && body[1] < 0x80)) {
    throw new Error('an integer');
  }
  return BigInt(`0x${body.toString('hex')}`);
}

/** An object identifier with its dots. */
function oid(body) {
  if (body.length === 0 || body.at(-1) >= 0x80) throw new Error('an object identifier');
  const parts = [];
  let value = 0n;
  body.forEach((byte, at) => {
    if (byte === 0x80 && (at === 0 || body[at - 1] < 0x80)) throw new Error('an object identifier');
    value = value * 128n + BigInt(byte & 0x7f);
    if (byte < 0x80) {
      parts.push(value);
      value = 0n;
    }
  });
  const first = parts[0] < 80n ? parts[0] / 40n : 2n;
  return [first, parts[0] - first * 40n, ...parts.slice(1)].join('.');
}

/** Seconds since 1970 of a UTCTime or GeneralizedTime, in the one form of each. */
function time({ tag, body }) {
  let text = body.toString('latin1');
  if (tag === 0x17 && text.length === 13) text = (text < '50' ? '20' : '19') + text;
  else if (tag !== 0x18) throw new Error('a time');
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const seconds = parts && Date.parse(
    `${parts[1]}-${parts[2]}-${parts[3]}T${parts[4]}:${parts[5]}:${parts[6]}Z`) / 1000;
  // Date.parse takes 24:00:00, and the last days of a month that has fewer.
  const same = Number.isFinite(seconds) && parts[1] !== '0000'
    && new Date(seconds * 1000).toISOString().replace(/\D/g, '').startsWith(text.slice(0, 14));
  if (!same) throw new Error('a time');
  return BigInt(seconds);
}

/** The characters of a value that a trust entry can name (fim-trust-6), or null. */
function characters({ tag, body }) {
  if (![0x0c, 0x13, 0x16].includes(tag)) return null;          // UTF8, Printable, IA5
  if (tag !== 0x0c && body.some((byte) => byte >= 0x80)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return null;
  }
}

/** The attributes of a Name, as "type=value". */
function attributes(name) {
  const found = [];
  for (const names = new Der(name); !names.done();) {
    const set = new Der(names.expect(0x31));
    do {
      const pair = new Der(set.expect(0x30));
      const type = oid(pair.expect(0x06));
      const value = characters(pair.next());
      pair.end();
      if (value !== null) found.push(`${type}=${value}`);
    } while (!set.done());
  }
  return found;
}

const EC = '1.2.840.10045.2.1';
const RSA = '1.2.840.113549.1.1.1';
// The curves, and how many bytes a coordinate has.
const CURVES = new Map([['1.2.840.10045.3.1.7', 32], ['1.3.132.0.34', 48]]);
const NULL = 0x05;

/** A key in its one encoding (fim-sig-13); throws at any other. */
function decodeKey(spki) {
  const fields = new Der(only(spki, 0x30));
  const algorithm = new Der(fields.expect(0x30));
  const bits = fields.expect(0x03);
  fields.end();
  if (bits[0] !== 0) throw new Error('unused bits in a key');
  const key = { type: oid(algorithm.expect(0x06)), point: bits.subarray(1) };
  if (key.type === EC) {
    key.curve = oid(algorithm.expect(0x06));
    if (key.point[0] !== 4 || key.point.length !== 1 + 2 * CURVES.get(key.curve)) {
      throw new Error('no uncompressed point');
    }
  } else if (key.type === RSA) {
    if (algorithm.expect(NULL).length > 0) throw new Error('NULL');
    const numbers = new Der(only(key.point, 0x30));
    key.modulus = natural(numbers.expect(0x02));
    key.exponent = natural(numbers.expect(0x02));
    numbers.end();
  }
  algorithm.end();
  return key;
}

/** The parts of a certificate, or null where it cannot be decoded (fim-cert-3). */
export function decodeCertificate(der) {
  if (der.length > 16384) return null;
  try {
    const whole = new Der(only(der, 0x30));
    const fields = new Der(whole.expect(0x30));
    whole.expect(0x30);
    whole.expect(0x03);                         // not looked at: fim-cert-9
    whole.end();
    if (fields.next().raw.toString('hex') !== 'a003020102') throw new Error('not version 3');
    fields.expect(0x02);                        // serial number
    fields.expect(0x30);                        // algorithm
    fields.expect(0x30);                        // issuer: fim-cert-9
    const validity = new Der(fields.expect(0x30));
    const certificate = {
      notBefore: time(validity.next()), notAfter: time(validity.next()),
      subject: attributes(fields.expect(0x30)), spki: fields.next().raw,
      digitalSignature: false, purposes: null,
    };
    validity.end();
    if (certificate.spki[0] !== 0x30) throw new Error('no key');
    for (const tag of [0x81, 0x82]) if (fields.peek() === tag) fields.next();   // unique ids
    if (!fields.done()) extensions(certificate, only(fields.expect(0xa3), 0x30));
    fields.end();
    return certificate;
  } catch {
    return null;
  }
}

/** The bytes of a BIT STRING that has no zero bits at its end. */
function namedBits(body) {
  const [unused, bits] = [body[0], body.subarray(1)];
  const last = bits.length ? bits.at(-1) : 1 << unused;
  if (!(unused <= 7) || (bits.length === 0 && unused !== 0) || (last & -last) !== 1 << unused) {
    throw new Error('a BIT STRING');
  }
  return bits;
}

function extensions(certificate, list) {
  const seen = new Set();
  const items = new Der(list);
  do {
    const item = new Der(items.expect(0x30));
    const type = oid(item.expect(0x06));
    if (seen.has(type)) throw new Error('an extension twice');
    seen.add(type);
    // Critical or not makes no difference (fim-cert-18), but it is TRUE or left out.
    if (item.peek() === 0x01 && item.next().raw.toString('hex') !== '0101ff') throw new Error('a BOOLEAN');
    const value = item.expect(0x04);
    item.end();
    if (type === '2.5.29.15') {                 // keyUsage
      certificate.digitalSignature = (namedBits(only(value, 0x03))[0] & 0x80) !== 0;
    } else if (type === '2.5.29.37') {          // extKeyUsage
      const purposes = new Der(only(value, 0x30));
      certificate.purposes = [];
      do {
        certificate.purposes.push(oid(purposes.expect(0x06)));
      } while (!purposes.done());
    }
  } while (!items.done());
}

const little = (bytes) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
// The y-coordinates of the points of small order (fim-sig-5).
const SMALL = new Set([0n, 1n, P - 1n,
  ...['26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  ].map((hex) => little(Buffer.from(hex, 'hex')))]);

const ed25519 = {
  fits(key) {
    if (key.type !== '1.3.101.112' || key.point.length !== 32) return false;
    const y = little(key.point) & (2n ** 255n - 1n);
    return y < P && !SMALL.has(y);              // fim-sig-4, fim-sig-5
  },
  verifies(key, value, message) {               // fim-sig-6, fim-sig-7
    return value.length === 64 && little(value.subarray(32)) < L
      && verify(null, message, key, value);
  },
};

const ecdsa = (curve, hash, order, longest) => ({
  fits: (key) => key.type === EC && key.curve === curve,
  verifies(key, value, message) {
    if (value.length < 8 || value.length > longest) return false;
    const pair = new Der(only(value, 0x30));    // fim-sig-8
    const r = natural(pair.expect(0x02));
    const s = natural(pair.expect(0x02));
    pair.end();
    return r > 0n && r < order && s > 0n && s < order         // fim-sig-9
      && verify(hash, message, { key, dsaEncoding: 'der' }, value);
  },
});

const rsaPss = {
  fits(key) {                                   // fim-sig-3, fim-sig-10
    if (key.type !== RSA) return false;
    const bits = key.modulus.toString(2).length;
    return bits >= 2048 && bits <= 4096 && key.modulus % 2n === 1n
      && key.exponent >= 65537n && key.exponent < 2n ** 31n && key.exponent % 2n === 1n;
  },
  verifies(key, value, message) {               // fim-sig-11
    const bits = key.asymmetricKeyDetails.modulusLength;
    return value.length === Math.ceil(bits / 8) && verify('sha256', message, {
      key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32,
    }, value);
  },
};

// The table of schemes, without ML-DSA, which node 20 does not have.
const SCHEMES = new Map([
  [0x0403, ecdsa('1.2.840.10045.3.1.7', 'sha256',
    0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n, 72)],
  [0x0503, ecdsa('1.3.132.0.34', 'sha384', BigInt('0xffffffffffffffffffffffff'
    + 'ffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973'), 104)],
  [0x0804, rsaPss],
  [0x0807, ed25519],
]);

export const KNOWN_SCHEMES = [...SCHEMES.keys()];

/** Step 8c: whether a key is one for a scheme that is known. */
export function fits(scheme, spki) {
  try {
    if (!SCHEMES.get(scheme).fits(decodeKey(spki))) return false;
    createPublicKey({ key: spki, format: 'der', type: 'spki' });       // is the point on the curve?
    return true;
  } catch {
    return false;
  }
}

/** Step 9. */
export function signatureVerifies(scheme, spki, value, message) {
  try {
    const object = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    return SCHEMES.get(scheme).verifies(object, value, message);
  } catch {
    return false;
  }
}
