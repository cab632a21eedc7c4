/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* The section "Revocation" of File Integrity Metadata: what a verifier knows as revoked for one volume. It is kept in
 * memory, for as long as the program runs. */
#ifndef REVOKED_H
#define REVOKED_H

#include <stdbool.h>
#include <stdint.h>

#include "canonical.h"
#include "fim.h"
#include "tree.h"

struct items {
    fim_item *list;
    size_t count;
};

/* Of one signer's key: the latest revocation that was accepted from it, which is its mark, too. */
struct accepted {
    struct bytes key; /* a SubjectPublicKeyInfo in DER */
    uint64_t generation;
    int64_t not_after;
    struct items items;
    unsigned int tag_hash;
    unsigned char tag[HASH_MAX];
};

struct revoked {
    struct items items; /* all of them */
    struct accepted *accepted;
    size_t count;
};

/* In the order of fim-rev-2. */
int compare_items(const fim_item *one, const fim_item *two);
bool has_item(const struct items *items, const fim_item *item);
bool is_key_revoked(const struct items *items, const struct bytes *key);
bool is_version_revoked(const struct items *items, unsigned int hash, const unsigned char *tag);
/* Copies of what is not there yet. */
void add_items(struct items *items, const struct items *more);
/* Replaces what was accepted from this key before. */
void keep_accepted(struct revoked *revoked, const struct accepted *accepted);
/* The not_after of the latest that was accepted from a key that is not revoked; INT64_MAX if there is none. */
int64_t fresh_until(const struct revoked *revoked);

#endif
