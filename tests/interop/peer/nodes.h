/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* All nodes of a tree, as one keeps them who has the leaves and makes proofs. */
#ifndef NODES_H
#define NODES_H

#include "tree.h"

enum { HEIGHT_MAX = 63, PROOF_MAX = 8192 };

struct nodes {
    struct tree tree;
    unsigned char *levels[HEIGHT_MAX + 1]; /* of each the values, end to end; NULL where there is no unit */
};

/* `leaves` are the values of the units of nodes->tree, and are kept. */
void make_nodes(struct nodes *nodes, unsigned char *leaves);
/* Where there is a unit: one value after the other, up to the end of the level. */
const unsigned char *nodes_at(const struct nodes *nodes, unsigned int level, uint64_t index);
/* The root, also of no units. */
void root_of(const struct nodes *nodes, unsigned char *out);
/* The range proof of [a, b) under the node of `level` that has them, into `out` of PROOF_MAX bytes; its length. */
size_t prove_range(const struct nodes *nodes, uint64_t a, uint64_t b, unsigned int level, char *out);

#endif
