/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "entries.h"

#include <stdlib.h>
#include <string.h>

#include "paths.h"

bool is_sound_entry(const fim_entry *entry)
{
    size_t parent = entry->parent.fim_path_len, name = entry->name.fim_name_len, start = parent + (parent > 0);
    char path[4095 + 1 + 255];

    if (!is_name(entry->name.fim_name_val, name) || start + name > 4095)
        return false;
    if (entry->node.type == FIM_ENTRY_LINK &&
        (entry->node.fim_node_u.target.target_len == 0 ||
         memchr(entry->node.fim_node_u.target.target_val, 0, entry->node.fim_node_u.target.target_len) != NULL))
        return false;
    copy(path, entry->parent.fim_path_val, parent);
    path[parent] = '/';
    copy(path + start, entry->name.fim_name_val, name);
    return is_path(path, start + name);
}

static int compare_bytes(const char *one, size_t one_size, const char *two, size_t two_size, bool slash_is_0)
{
    for (size_t i = 0; i < one_size && i < two_size; i++) {
        unsigned char a = one[i], b = two[i];
        a = slash_is_0 && a == '/' ? 0 : a;
        b = slash_is_0 && b == '/' ? 0 : b;
        if (a != b)
            return a < b ? -1 : 1;
    }
    return (one_size > two_size) - (one_size < two_size);
}

int compare_place(const fim_entry *entry, const struct bytes *parent, const struct bytes *name)
{
    int order = compare_bytes(entry->parent.fim_path_val, entry->parent.fim_path_len, parent->data, parent->size, true);

    return order != 0 ? order
                      : compare_bytes(entry->name.fim_name_val, entry->name.fim_name_len, name->data, name->size, false);
}

struct tree tree_of_entries(uint64_t entries, const struct hash *hash)
{
    struct tree tree = {hash, 0, 0, entries, 0};

    while (tree.height < 63 && UINT64_C(1) << tree.height < tree.n)
        tree.height++;
    return tree;
}

void leaf_of_entry(const struct hash *hash, const fim_entry *entry, unsigned char *out)
{
    unsigned long size = xdr_sizeof((xdrproc_t)xdr_fim_entry, (void *)entry);
    char *unit = malloc(size);
    XDR xdrs;

    if (unit == NULL)
        abort();
    xdrmem_create(&xdrs, unit, size, XDR_ENCODE);
    if (!xdr_fim_entry(&xdrs, (fim_entry *)entry))
        abort();
    leaf(hash, unit, size, out);
    free(unit);
}
