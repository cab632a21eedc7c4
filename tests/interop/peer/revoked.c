/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "revoked.h"

#include <stdlib.h>

static void *grown(void *list, size_t count, size_t size)
{
    list = realloc(list, count * size);
    if (list == NULL)
        abort();
    return list;
}

int compare_items(const fim_item *one, const fim_item *two)
{
    u_int one_length = one->digest.fim_hash_len, two_length = two->digest.fim_hash_len;
    int order;

    if (one->what != two->what)
        return one->what < two->what ? -1 : 1;
    if (one->hash != two->hash)
        return one->hash < two->hash ? -1 : 1;
    order = compare(one->digest.fim_hash_val, two->digest.fim_hash_val,
                    one_length < two_length ? one_length : two_length);
    return order != 0 ? order : (one_length > two_length) - (one_length < two_length);
}

bool has_item(const struct items *items, const fim_item *item)
{
    for (size_t i = 0; i < items->count; i++)
        if (compare_items(&items->list[i], item) == 0)
            return true;
    return false;
}

bool is_key_revoked(const struct items *items, const struct bytes *key)
{
    unsigned char value[HASH_MAX];

    for (size_t i = 0; i < items->count; i++) {
        const fim_item *item = &items->list[i];
        if (item->what != FIM_PUBLIC_KEY)
            continue;
        digest(hash_of(item->hash), key->data, key->size, value); /* known, or it was not accepted (step 5) */
        if (compare(value, item->digest.fim_hash_val, item->digest.fim_hash_len) == 0)
            return true;
    }
    return false;
}

bool is_version_revoked(const struct items *items, unsigned int hash, const unsigned char *tag)
{
    fim_item item = {FIM_VERSION, hash, {hash_of(hash)->length, (char *)tag}};

    return has_item(items, &item);
}

void add_items(struct items *items, const struct items *more)
{
    for (size_t i = 0; i < more->count; i++) {
        fim_item item = more->list[i];
        if (has_item(items, &item))
            continue;
        item.digest.fim_hash_val = grown(NULL, item.digest.fim_hash_len + 1, 1);
        copy(item.digest.fim_hash_val, more->list[i].digest.fim_hash_val, item.digest.fim_hash_len);
        items->list = grown(items->list, items->count + 1, sizeof item);
        items->list[items->count++] = item;
    }
}

void keep_accepted(struct revoked *revoked, const struct accepted *accepted)
{
    struct accepted *kept = NULL;

    for (size_t i = 0; i < revoked->count; i++) {
        struct accepted *one = &revoked->accepted[i];
        if (one->key.size == accepted->key.size && compare(one->key.data, accepted->key.data, one->key.size) == 0)
            kept = one;
    }
    if (kept == NULL) {
        revoked->accepted = grown(revoked->accepted, revoked->count + 1, sizeof *kept);
        kept = &revoked->accepted[revoked->count++];
    }
    *kept = *accepted;
}

int64_t fresh_until(const struct revoked *revoked)
{
    const struct accepted *latest = NULL;

    for (size_t i = 0; i < revoked->count; i++) {
        const struct accepted *one = &revoked->accepted[i];
        if (!is_key_revoked(&revoked->items, &one->key) && (latest == NULL || one->generation > latest->generation))
            latest = one;
    }
    return latest == NULL ? INT64_MAX : latest->not_after;
}
