// SPDX-FileCopyrightText: the nfs-verity authors
// SPDX-License-Identifier: BSD-3-Clause

// The tree of type 1 and its range proofs.  H is a
// function that gives the digest of its arguments, joined.  Counts and
// indexes are exact as numbers: n is at most 2^51 (fim-tree-4).

/** A proof, or a range, that nobody should have sent: no verdict. */
export class Refused extends Error {}

const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

export const leaf = (H, unit) => H(LEAF, unit);                 // fim-tree-1
export const node = (H, left, right) => H(NODE, left, right);   // fim-tree-2

/** The number of units of a size, which is a BigInt (fim-tree-4). */
export function units(size, unitLog2) {
  const unit = 1n << BigInt(unitLog2);
  return Number(size / unit) + (size % unit === 0n ? 0 : 1);
}

export const width = (n, h) =>
  Math.floor(n / 2 ** h) + (n % 2 ** h === 0 ? 0 : 1);

export function height(n) {
  let h = 0;
  while (2 ** h < n) h += 1;
  return h;
}

/** fim-tree-6: a name of a node, checked before it is used. */
export function canonical(n, h, i) {
  if (!(Number.isInteger(h) && h >= 0 && h <= height(n)
      && Number.isInteger(i) && i >= 0 && i < width(n, h))) {
    throw new Refused('no such node');
  }
  while (h > 0 && 2 * i + 1 >= width(n, h - 1)) {
    h -= 1;
    i *= 2;
  }
  return [h, i];
}

/** The root over leaf values, with one node of each level in memory. */
export function root(H, leaves) {
  if (leaves.length === 0) return H();                          // fim-tree-3
  const stack = [];                     // [level, value], levels descending
  for (const value of leaves) {
    let top = [0, value];
    while (stack.length && stack.at(-1)[0] === top[0]) {
      top = [top[0] + 1, node(H, stack.pop()[1], top[1])];
    }
    stack.push(top);
  }
  return stack.map(([, value]) => value).reduceRight((right, left) => node(H, left, right));
}

/** All nodes; at(h, i) finds each under all of its names (fim-tree-5). */
export class Tree {
  constructor(H, leaves) {
    this.levels = [leaves];
    for (let below = leaves; below.length > 1;) {
      const level = [];
      for (let i = 0; i < below.length; i += 2) {
        level.push(i + 1 < below.length
          ? node(H, below[i], below[i + 1]) : below[i]);
      }
      this.levels.push(level);
      below = level;
    }
  }

  at(h, i) {
    canonical(this.levels[0].length, h, i);
    return this.levels[h][i];
  }
}

/** fim-proof-1, fim-proof-2: the index of the node of level h above. */
function above(n, a, b, h) {
  const whole = [n, a, b, h].every((x) => Number.isSafeInteger(x) && x >= 0);
  if (!(whole && a < b && b <= n && h <= height(n))) throw new Refused('range');
  const i = Math.floor(a / 2 ** h);
  if (i !== Math.floor((b - 1) / 2 ** h)) throw new Refused('range');
  return i;
}

const outside = (n, a, b, h, i) =>
  Math.min((i + 1) * 2 ** h, n) <= a || b <= i * 2 ** h;

/** The proof of units [a, b) under the node of level h (fim-proof-3). */
export function prove(tree, n, a, b, h) {
  const proof = [];
  const walk = (k, i) => {
    if (outside(n, a, b, k, i)) {
      proof.push(tree.at(k, i));
    } else if (k > 0) {
      walk(k - 1, 2 * i);
      if (2 * i + 1 < width(n, k - 1)) walk(k - 1, 2 * i + 1);
    }
  };
  walk(h, above(n, a, b, h));
  return proof;
}

export function proofLength(n, a, b, h) {
  let count = 0;
  for (let k = 0; k < h; k += 1) {
    const last = Math.floor((b - 1) / 2 ** k);
    if (Math.floor(a / 2 ** k) % 2 === 1) count += 1;
    if (last % 2 === 0 && (last + 1) * 2 ** k < n) count += 1;
  }
  return count;
}

/** Checks the shape of a proof before anything is hashed (fim-proof-4). */
export function checkProof(n, a, b, h, proof, length) {
  above(n, a, b, h);
  if (proof.length !== proofLength(n, a, b, h)
      || proof.some((value) => value.length !== length)) {
    throw new Refused('length of the proof');
  }
}

/** Whether leaf values of [a, b) and a proof give the expected value. */
export function verifyLeaves(H, n, a, b, h, expected, leaves, proof) {
  checkProof(n, a, b, h, proof, H().length);
  if (leaves.length !== b - a) throw new Refused('number of leaves');
  let used = 0;
  const fold = (k, i) => {
    if (outside(n, a, b, k, i)) return proof[used++];
    if (k === 0) return leaves[i - a];
    const left = fold(k - 1, 2 * i);
    if (2 * i + 1 >= width(n, k - 1)) return left;
    return node(H, left, fold(k - 1, 2 * i + 1));
  };
  const found = fold(h, above(n, a, b, h));
  return used === proof.length && found.equals(expected);       // fim-proof-7
}
