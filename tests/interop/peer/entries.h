/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* The entries of a volume, and the tree over them: "Entries" of File Integrity Metadata. */
#ifndef ENTRIES_H
#define ENTRIES_H

#include <stdbool.h>

#include "canonical.h"
#include "fim.h"
#include "tree.h"

/* Its parent and name are a path, and the target of a link is one that a link may have. */
bool is_sound_entry(const fim_entry *entry);
/* Where an entry is in the order, beside the place of a parent and a name (fim-vol-2). */
int compare_place(const fim_entry *entry, const struct bytes *parent, const struct bytes *name);
/* The encoding of an entry is a unit, of which there are as many as the head says (fim-vol-1). */
struct tree tree_of_entries(uint64_t entries, const struct hash *hash);
void leaf_of_entry(const struct hash *hash, const fim_entry *entry, unsigned char *out);

#endif
