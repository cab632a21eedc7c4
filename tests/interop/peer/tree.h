/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Hashes, the tree and range proofs: "The Tree" and "Range Proofs" of File Integrity Metadata. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_MAX 64 /* bytes of a digest */

/* A hash of the draft's table. `name` is what libcrypto calls it; NULL if libcrypto does not have it. */
struct hash {
    unsigned int number;
    unsigned int length;
    const char *name;
};

/* NULL for a number that the draft does not list. */
const struct hash *hash_of(unsigned int number);
void digest(const struct hash *hash, const void *data, size_t size, unsigned char *out);

struct tree {
    const struct hash *hash;
    unsigned int unit_log2;
    uint64_t size;       /* bytes */
    uint64_t n;          /* units, at most 2^51 */
    unsigned int height; /* the level of the root */
};

void make_tree(struct tree *tree, const struct hash *hash, unsigned int unit_log2, uint64_t size);
/* x div 2^log2, plus one if a rest: as a sum it would overflow (fim-tree-4) */
uint64_t ceil_div(uint64_t x, unsigned int log2);
/* The bytes of units [a, b). */
size_t bytes_of(const struct tree *tree, uint64_t a, uint64_t b);
void leaf(const struct hash *hash, const void *unit, size_t size, unsigned char *out);
void node(const struct hash *hash, const unsigned char *left, const unsigned char *right, unsigned char *out);

/* What is at (level, index): for a verifier the next hash of a proof, for a prover one that it puts down. */
typedef void (*at_function)(void *context, unsigned int level, uint64_t index, unsigned char *out);

/* The value of node (level, index). Units [a, b) have the values in `leaves`, one after the other; the largest
 * subtrees without any of them have those that `at` gives, from left to right. */
void fold(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level, uint64_t index,
          const unsigned char *leaves, at_function at, void *context, unsigned char *out);
/* Call `at` for each hash of the range proof of [a, b) under node (level, index), in its order. */
void prove(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level, uint64_t index, at_function at,
           void *context);
/* Hashes in the range proof of [a, b) under the node of `level` that has them. */
size_t proof_length(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level);

#endif
