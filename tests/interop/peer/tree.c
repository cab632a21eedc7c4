/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

static const struct hash hashes[] = {
    {1, 32, "SHA256"},    {7, 48, "SHA384"},    {8, 64, "SHA512"},   {10, 32, "SHA3-256"},
    {11, 48, "SHA3-384"}, {12, 64, "SHA3-512"}, {0x10000, 32, NULL},
};

const struct hash *hash_of(unsigned int number)
{
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++)
        if (hashes[i].number == number)
            return &hashes[i];
    return NULL;
}

/* The digest of up to three pieces. */
static void digest_of(const struct hash *hash, const void *first, size_t first_size, const void *second,
                      size_t second_size, const void *third, size_t third_size, unsigned char *out)
{
    static const struct hash *fetched;
    static EVP_MD *function;
    static EVP_MD_CTX *context;

    if (fetched != hash) { /* once: to fetch takes longer than to hash a unit of 4 KiB */
        EVP_MD_free(function);
        function = EVP_MD_fetch(NULL, hash->name, NULL);
        fetched = hash;
    }
    if (context == NULL)
        context = EVP_MD_CTX_new();
    if (function == NULL || context == NULL || !EVP_DigestInit_ex2(context, function, NULL) ||
        !EVP_DigestUpdate(context, first, first_size) || !EVP_DigestUpdate(context, second, second_size) ||
        !EVP_DigestUpdate(context, third, third_size) || !EVP_DigestFinal_ex(context, out, NULL)) {
        fprintf(stderr, "libcrypto cannot compute %s\n", hash->name);
        exit(70);
    }
}

void digest(const struct hash *hash, const void *data, size_t size, unsigned char *out)
{
    digest_of(hash, data, size, "", 0, "", 0, out);
}

void leaf(const struct hash *hash, const void *unit, size_t size, unsigned char *out)
{
    digest_of(hash, "\0", 1, unit, size, "", 0, out); /* fim-tree-1 */
}

void node(const struct hash *hash, const unsigned char *left, const unsigned char *right, unsigned char *out)
{
    digest_of(hash, "\1", 1, left, hash->length, right, hash->length, out); /* fim-tree-2 */
}

uint64_t ceil_div(uint64_t x, unsigned int log2)
{
    uint64_t rest = x & ((UINT64_C(1) << log2) - 1);

    return (x >> log2) + (rest != 0);
}

void make_tree(struct tree *tree, const struct hash *hash, unsigned int unit_log2, uint64_t size)
{
    tree->hash = hash;
    tree->unit_log2 = unit_log2;
    tree->size = size;
    tree->n = ceil_div(size, unit_log2);
    tree->height = 0;
    while (UINT64_C(1) << tree->height < tree->n)
        tree->height++;
}

size_t bytes_of(const struct tree *tree, uint64_t a, uint64_t b)
{
    uint64_t end = b >= tree->n ? tree->size : b << tree->unit_log2;

    return end - (a << tree->unit_log2);
}

static bool is_outside(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level, uint64_t index)
{
    uint64_t end = (index + 1) << level;

    return (end < tree->n ? end : tree->n) <= a || b <= index << level;
}

/* A node whose right half would be empty has the value of its left child. */
static bool has_right(const struct tree *tree, unsigned int level, uint64_t index)
{
    return 2 * index + 1 < ceil_div(tree->n, level - 1);
}

void fold(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level, uint64_t index,
          const unsigned char *leaves, at_function at, void *context, unsigned char *out)
{
    unsigned char left[HASH_MAX], right[HASH_MAX];

    if (is_outside(tree, a, b, level, index)) {
        at(context, level, index, out);
    } else if (level == 0) {
        const unsigned char *value = leaves + (index - a) * tree->hash->length;
        for (unsigned int i = 0; i < tree->hash->length; i++)
            out[i] = value[i];
    } else if (has_right(tree, level, index)) {
        fold(tree, a, b, level - 1, 2 * index, leaves, at, context, left);
        fold(tree, a, b, level - 1, 2 * index + 1, leaves, at, context, right);
        node(tree->hash, left, right, out);
    } else {
        fold(tree, a, b, level - 1, 2 * index, leaves, at, context, out);
    }
}

void prove(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level, uint64_t index, at_function at,
           void *context)
{
    if (is_outside(tree, a, b, level, index)) {
        at(context, level, index, NULL);
    } else if (level > 0) {
        prove(tree, a, b, level - 1, 2 * index, at, context);
        if (has_right(tree, level, index))
            prove(tree, a, b, level - 1, 2 * index + 1, at, context);
    }
}

size_t proof_length(const struct tree *tree, uint64_t a, uint64_t b, unsigned int level)
{
    size_t count = 0;

    for (unsigned int k = 0; k < level; k++) {
        uint64_t last = (b - 1) >> k;
        count += a >> k & 1;
        count += (last & 1) == 0 && (last + 1) << k < tree->n;
    }
    return count;
}
