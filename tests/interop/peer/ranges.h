/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* "Ranges of Entries" of File Integrity Metadata. */
#ifndef RANGES_H
#define RANGES_H

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
/* Whether a range of one entry or more folds to the root. */
bool range_folds(const fim_volume *volume, const struct hash *hash, const fim_range *range);

#endif
