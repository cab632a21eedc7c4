/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ranges.h"

#include <stdlib.h>
#include <string.h>

#include "entries.h"

struct hashes {
    const unsigned char *next;
    unsigned int length;
};

static void next_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct hashes *hashes = context;

    (void)level, (void)index;
    memcpy(out, hashes->next, hashes->length);
    hashes->next += hashes->length;
}

/* Whether a range of one entry or more is within the volume, and its proof has the length that is due. */
static bool range_has_form(const fim_volume *volume, const struct hash *hash, const fim_range *range)
{
    struct tree tree = tree_of_entries(volume->entries, hash);
    u_int count = range->entries.entries_len;

    return count > 0 && range->first <= volume->entries && count <= volume->entries - range->first &&
           range->proof.proof_len == hash->length * proof_length(&tree, range->first, range->first + count, tree.height);
}

/* "Ranges of Entries". */
bool range_folds(const fim_volume *volume, const struct hash *hash, const fim_range *range)
{
    u_int count = range->entries.entries_len;
    struct tree tree = tree_of_entries(volume->entries, hash);
    struct hashes hashes = {(const unsigned char *)range->proof.proof_val, hash->length};
    unsigned char *leaves, top[HASH_MAX];
    bool folds;

    if (!range_has_form(volume, hash, range))
        return false;
    leaves = malloc((size_t)count * hash->length);
    if (leaves == NULL)
        abort();
    for (u_int i = 0; i < count; i++)
        leaf_of_entry(hash, &range->entries.entries_val[i], leaves + (size_t)i * hash->length);
    fold(&tree, range->first, range->first + count, tree.height, 0, leaves, next_hash, &hashes, top);
    folds = compare(top, volume->root.fim_hash_val, hash->length) == 0;
    free(leaves);
    return folds;
}

const char *verify_range(const struct verified *head, const fim_range *range)
{
    const fim_volume *volume = &head->statement.claim.fim_claim_u.volume;
    const struct hash *hash = hash_of(head->statement.hash);
    const fim_entry *entries = range->entries.entries_val;
    unsigned char empty[HASH_MAX];

    for (u_int i = 0; i < range->entries.entries_len; i++)
        if (!is_sound_entry(&entries[i])) /* fim-dec-1 */
            return "malformed";
    if (range->entries.entries_len == 0) {
        digest(hash, "", 0, empty);
        if (volume->entries != 0 || range->first != 0 || range->proof.proof_len != 0)
            return NOT_SHOWN;
        return compare(empty, volume->root.fim_hash_val, hash->length) == 0 ? NULL : "mismatch";
    }
    if (!range_has_form(volume, hash, range))
        return NOT_SHOWN;
    if (!range_folds(volume, hash, range)) /* fim-range-1 */
        return "mismatch";
    for (u_int i = 0; i < range->entries.entries_len; i++) { /* fim-range-2 */
        const fim_entry *one = &entries[i];
        struct bytes parent = {one->parent.fim_path_val, one->parent.fim_path_len};
        struct bytes name = {one->name.fim_name_val, one->name.fim_name_len};
        if (one->node.type == FIM_ENTRY_FILE && one->node.fim_node_u.file.content.fim_hash_len != hash->length)
            return "malformed";
        if (i > 0 && compare_place(one - 1, &parent, &name) >= 0)
            return "malformed";
    }
    return NULL;
}

const char *find_entry(const struct verified *head, const fim_range *range, const struct bytes *parent,
                       const struct bytes *name, const fim_entry **found)
{
    u_int count = range->entries.entries_len, at = 0;
    const char *verdict = verify_range(head, range);
    int order = -1;

    *found = NULL;
    if (verdict != NULL)
        return verdict;
    while (at < count && (order = compare_place(&range->entries.entries_val[at], parent, name)) < 0)
        at++;
    if (at < count && order == 0)
        *found = &range->entries.entries_val[at];
    else if (at < count ? at == 0 && range->first > 0 /* fim-range-3 */
                        : range->first + count != head->statement.claim.fim_claim_u.volume.entries)
        return NOT_SHOWN;
    return NULL;
}

bool begins_at(const fim_range *range, const struct bytes *parent, const struct bytes *name)
{
    const fim_entry *entries = range->entries.entries_val;
    u_int count = range->entries.entries_len;

    if (range->first > 0 && compare_place(&entries[0], parent, name) >= 0)
        return false;
    return count < 2 || compare_place(&entries[1], parent, name) >= 0;
}

bool take_listed(const struct verified *head, const fim_range *range, const struct bytes *directory,
                 struct bytes *after, struct listed *page)
{
    u_int count = range->entries.entries_len;
    const fim_entry *entries = range->entries.entries_val;

    if (page->next > 0 ? range->first > page->next
                       : range->first > 0 && compare_place(&entries[0], directory, after) >= 0)
        return false;
    page->next = range->first + count;
    page->last = page->next == head->statement.claim.fim_claim_u.volume.entries;
    page->first = 0;
    while (page->first < count && compare_place(&entries[page->first], directory, after) <= 0)
        page->first++;
    for (page->end = page->first; page->end < count; page->end++) {
        const fim_entry *entry = &entries[page->end];
        if (entry->parent.fim_path_len != directory->size ||
            compare(entry->parent.fim_path_val, directory->data, directory->size) != 0) {
            page->last = true;
            break;
        }
        after->size = entry->name.fim_name_len;
        copy(after->data, entry->name.fim_name_val, after->size);
    }
    return true;
}
