/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "nodes.h"

#include <stdlib.h>
#include <string.h>

void make_nodes(struct nodes *nodes, unsigned char *leaves)
{
    const struct tree *tree = &nodes->tree;
    unsigned int length = tree->hash->length;

    nodes->levels[0] = leaves;
    for (unsigned int level = 1; level <= tree->height; level++) {
        const unsigned char *below = nodes->levels[level - 1];
        uint64_t count = ceil_div(tree->n, level), count_below = ceil_div(tree->n, level - 1);
        unsigned char *values = malloc(count * length);
        if (values == NULL)
            abort();
        for (uint64_t i = 0; i < count; i++) {
            const unsigned char *left = below + 2 * i * length;
            if (2 * i + 1 < count_below)
                node(tree->hash, left, left + length, values + i * length);
            else
                memcpy(values + i * length, left, length); /* fip-tree-2 */
        }
        nodes->levels[level] = values;
    }
}

const unsigned char *nodes_at(const struct nodes *nodes, unsigned int level, uint64_t index)
{
    return nodes->levels[level] + index * nodes->tree.hash->length;
}

void root_of(const struct nodes *nodes, unsigned char *out)
{
    if (nodes->tree.n == 0)
        digest(nodes->tree.hash, "", 0, out);
    else
        memcpy(out, nodes->levels[nodes->tree.height], nodes->tree.hash->length);
}

struct proof {
    const struct nodes *nodes;
    char *end;
};

static void put_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct proof *proof = context;
    unsigned int length = proof->nodes->tree.hash->length;

    (void)out;
    memcpy(proof->end, nodes_at(proof->nodes, level, index), length);
    proof->end += length;
}

size_t prove_range(const struct nodes *nodes, uint64_t a, uint64_t b, unsigned int level, char *out)
{
    struct proof proof = {nodes, out};

    prove(&nodes->tree, a, b, level, a >> level, put_hash, &proof);
    return proof.end - out;
}
