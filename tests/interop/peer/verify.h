/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Steps 0 to 12 of the section "Verification" of File Integrity Metadata. */
#ifndef VERIFY_H
#define VERIFY_H

#include <stdint.h>

#include "canonical.h"
#include "fim.h"
#include "marks.h"
#include "revoked.h"
#include "tree.h"

enum { PINS_MAX = 8 };

/* What the verifier brings: it comes from its user, and nothing of it from the server. */
struct expected {
    unsigned char volume[16];
    struct bytes path;
    struct bytes certificates[PINS_MAX]; /* DER: signers that are believed, for anything; the others are empty */
    int64_t now;                         /* Unix seconds */
    struct revoked *revoked;             /* for the volume; NULL: nothing is */
    struct marks *marks;                 /* NULL: none are kept */
};

struct verified {
    fim_record record;
    fim_statement statement;
    struct tree tree;
    fim_hash root;   /* of the content; its bytes are those of the statement */
    bool executable; /* of a member: its entry says it */
    unsigned char tag[HASH_MAX]; /* its length and number are those of tree.hash */
};

/* NULL if the record verifies, and then it is in `out`; else the name of the verdict, and `out` is empty. */
const char *verify_record(const struct bytes *record, const struct expected *expected, struct verified *out);
/* The same for a revocation, which has no path; what it revokes is added to what is known as revoked. So it is for one
 * that has expired, whose verdict is record-expired. */
const char *verify_revocation(const struct bytes *record, const struct expected *expected);
/* Whether there is a mark of a head for the expected volume. */
bool expects_head(const struct expected *expected);
/* The same for the head of a volume, which has no path and no tree. */
const char *verify_head(const struct bytes *record, const struct expected *expected, struct verified *out);
/* The same for the record of a file of a volume, under a head that was verified (fim-member-1). */
const char *verify_member(const struct bytes *record, const struct verified *head, const struct expected *expected,
                          struct verified *out);
/* The same without a membership, for the file of an entry of a range that was verified: its statement alone. */
const char *verify_listed(const fim_entry *entry, const struct bytes *statement, const struct verified *head,
                          const struct expected *expected, struct verified *out);
/* The same for a fim_exported: its head, then its record (fim-export-2). */
const char *verify_exported(const struct bytes *data, const struct expected *expected, struct verified *out);
/* Step 13 for the whole content of a file: NULL or mismatch. */
const char *verify_content(const struct verified *version, const struct bytes *content);
/* Of a file or a member that was verified: the tree of its content. */
void make_content_tree(struct verified *out);
void free_verified(struct verified *verified);

#endif
