/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* "Ranges of Entries" of File Integrity Metadata. */
#ifndef RANGES_H
#define RANGES_H

#include <stdbool.h>

#include "verify.h"

/* No verdict: the peer's trouble. The answer is no range of the volume, or lacks a neighbour that it should have. */
#define NOT_SHOWN "malformed-reply"
/* NULL if the range is one of the volume, and breaks none of its rules; else a verdict, or NOT_SHOWN. */
const char *verify_range(const struct verified *head, const fim_range *range);
/* The same, and the entry at a place, in the range; NULL if it is shown that there is none (fim-range-3). */
const char *find_entry(const struct verified *head, const fim_range *range, const struct bytes *parent,
                       const struct bytes *name, const fim_entry **found);
/* Whether a verified range begins with the last entry below the place, or with the first of the volume (fip-entries-1). */
bool begins_at(const fim_range *range, const struct bytes *parent, const struct bytes *name);
/* What a range has of a listing: its entries [first, end). `next` is the position up to which the listing is known, 0
 * before the first page; `last`: it ends with this one. */
struct listed {
    u_int first, end;
    uint64_t next;
    bool last;
};
/* The page of a directory that follows on `page`, by a verified range, from behind the name `after` on, which it moves
 * on. False: there is a gap (fim-range-4). */
bool take_listed(const struct verified *head, const fim_range *range, const struct bytes *directory,
                 struct bytes *after, struct listed *page);
/* Whether a range of one entry or more folds to the root. */
bool range_folds(const fim_volume *volume, const struct hash *hash, const fim_range *range);

#endif
