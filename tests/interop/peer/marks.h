/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* The chapter "Marks" of File Integrity Metadata. They are kept for as long as the program runs; and in a file, if there
 * is one, which several programs may share. Trouble with the file ends the program, with exit status 4.
 *
 * The file has a line for each mark, of words in hexadecimal but for numbers: the SHA-256 of the anchor, volume ID, kind,
 * path (or "-"), key, generation, and the tag's hash and digest. */
#ifndef MARKS_H
#define MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "canonical.h"
#include "fim.h"
#include "revoked.h"
#include "tree.h"

enum { ANCHOR = 32 };

struct mark {
    unsigned char anchor[ANCHOR];
    unsigned char volume[16];
    unsigned int kind;
    struct bytes path;
    struct bytes key; /* a SubjectPublicKeyInfo in DER */
    uint64_t generation;
    unsigned int hash;
    unsigned char tag[HASH_MAX];
};

struct marks {
    const char *file; /* NULL: there is none */
    struct mark *list;
    size_t count;
};

void mark_anchor(const struct bytes *certificate, unsigned char anchor[ANCHOR]);

/* All anchors that count, end to end; there are `count`. */
struct anchors {
    unsigned char values[8][ANCHOR];
    int count;
};

/* Step 11 of what `version` has, whose anchor and key are not looked at: NULL, or the verdict. The marks of keys that
 * are revoked are passed over (fim-mark-8). */
const char *compare_marks(struct marks *marks, const struct anchors *anchors, const struct mark *version,
                          const struct items *revoked);
/* Whether there is a mark of a head for a volume. */
bool is_head_marked(struct marks *marks, const struct anchors *anchors, const unsigned char volume[16],
                    const struct items *revoked);
/* After step 12: compare again, and raise the marks of the signers in `versions`. What is raised is on durable storage
 * (fim-mark-3). */
const char *raise_marks(struct marks *marks, const struct anchors *anchors, const struct mark *versions, size_t count,
                        const struct items *revoked);

#endif
