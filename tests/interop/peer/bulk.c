/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Reads all files below a directory of a volume, verified, many with each call.
 *
 * usage: bulk HOST PORT VOLUME PATH CERTIFICATES COUNT MOST [NOW]
 *
 * PATH is empty for the root. COUNT and MOST are how many entries and bytes are asked for at once. Prints of each file
 * its path, its size in decimal and whether it came in bulk (b) or by itself (f), each with a zero byte behind it, and
 * its content. All of it is there if the exit status is 0; else that is as of `peer`.
 *
 * Written from "BULK" of the protocol. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "calls.h"
#include "entries.h"
#include "ranges.h"
#include "reader.h"
#include "session.h"

static unsigned int most_entries, most_bytes;
static bool printed;

/* What a reader delivers of one file, until it is whole. */
static struct bytes content;

static void keep(const char *data, size_t size)
{
    content.data = realloc(content.data, content.size + size + 1);
    if (content.data == NULL)
        abort();
    copy(content.data + content.size, data, size);
    content.size += size;
}

static void print_file(const struct bytes *path, char how, const struct bytes *data)
{
    fwrite(path->data, 1, path->size, stdout);
    printf("%c%zu%c%c%c", 0, data->size, 0, how, 0);
    if (data->size > 0)
        fwrite(data->data, 1, data->size, stdout);
    printed = true;
}

static void refuse(const char *verdict)
{
    if (verdict == NULL)
        return;
    if (strcmp(verdict, NOT_SHOWN) == 0)
        trouble_with_peer("malformed-reply: a range that does not show what it was asked for");
    end_with(verdict);
}

/* fip-bulk-6, but for what fip-entries-6 has */
static void check_items(const fip_bulk_ok *ok)
{
    uint64_t sum = 0;

    if (ok->items.items_len != ok->range.entries.entries_len || ok->range.entries.entries_len > most_entries)
        trouble_with_peer("malformed-reply: not as many items as entries");
    for (u_int i = 0; i < ok->items.items_len; i++) {
        const fip_bulk_item *item = &ok->items.items_val[i];
        if (ok->range.entries.entries_val[i].node.type != FIM_ENTRY_FILE &&
            (item->statement.statement_len != 0 || item->length != 0))
            trouble_with_peer("malformed-reply: the content of what is no file"); /* fip-bulk-3 */
        sum += item->length;
    }
    if (sum != ok->data.data_len || sum > most_bytes)
        trouble_with_peer("malformed-reply: data of the wrong length");
}

/* A file, by what came with it if that verifies, or by itself: trouble is settled there. */
static void take_file(const fim_entry *entry, const fip_bulk_item *item, const char *data)
{
    struct bytes statement = {item->statement.statement_val, item->statement.statement_len};
    struct bytes came = {(char *)data, item->length};
    struct verified version;
    size_t parent = entry->parent.fim_path_len, start = parent + (parent > 0);
    char path[4096];
    const char *verdict = "nothing came";

    copy(path, entry->parent.fim_path_val, parent);
    path[parent] = '/';
    copy(path + start, entry->name.fim_name_val, entry->name.fim_name_len);
    expected.path = (struct bytes){path, start + entry->name.fim_name_len};
    if (statement.size > 0)
        verdict = verify_listed(entry, &statement, &head, &expected, &version);
    if (verdict == NULL) {
        if (item->length != 0 && item->length != version.tree.size)
            trouble_with_peer("malformed-reply: a part of a file"); /* fip-bulk-4 */
        verdict = verify_content(&version, &came);
        free_verified(&version);
    }
    if (verdict == NULL) {
        print_file(&expected.path, 'b', &came);
        return;
    }
    content.size = 0;
    read_verified(INLINE, keep);
    print_file(&expected.path, 'f', &content);
}

static bool is_below(const fim_entry *entry, const struct bytes *directory)
{
    const fim_path *parent = &entry->parent;

    return directory->size == 0 ||
           (parent->fim_path_len >= directory->size &&
            compare(parent->fim_path_val, directory->data, directory->size) == 0 &&
            (parent->fim_path_len == directory->size || parent->fim_path_val[directory->size] == '/'));
}

/* Where the next page begins. */
struct place {
    char parent_bytes[4095], name_bytes[255];
    struct bytes parent, name;
};

/* A page. True: it is the last of what is below the directory. All in a page is of the head under which it came, and
 * when a file by itself brings another head, the next page is not to be had. */
static bool take_page(const fip_bulk_ok *ok, const struct bytes *directory, struct place *place)
{
    const fim_range *range = &ok->range;
    u_int count = range->entries.entries_len, before = 0;
    bool last = range->first + count == head.statement.claim.fim_claim_u.volume.entries;
    size_t at = 0;

    check_items(ok);
    refuse(verify_range(&head, range));
    if (count > 0 && !begins_at(range, &place->parent, &place->name))
        refuse(NOT_SHOWN);
    for (; before < count && compare_place(&range->entries.entries_val[before], &place->parent, &place->name) <= 0; before++)
        at += ok->items.items_val[before].length;
    if (!last && before == count)
        trouble_with_peer("malformed-reply: a listing that does not go on");
    for (u_int i = before; i < count; i++) {
        const fim_entry *entry = &range->entries.entries_val[i];
        uint64_t generation = head_generation();
        if (!is_below(entry, directory))
            return true;
        if (entry->node.type == FIM_ENTRY_FILE)
            take_file(entry, &ok->items.items_val[i], ok->data.data_val == NULL ? "" : ok->data.data_val + at);
        if (head_generation() != generation)
            end_with("stale"); /* fim-head-3 */
        at += ok->items.items_val[i].length;
        place->parent.size = entry->parent.fim_path_len;
        copy(place->parent_bytes, entry->parent.fim_path_val, place->parent.size);
        place->name.size = entry->name.fim_name_len;
        copy(place->name_bytes, entry->name.fim_name_val, place->name.size);
    }
    return last;
}

/* False: the head changed. */
static bool read_below(const struct bytes *directory)
{
    static struct place place;
    bool last = false;

    place.parent = (struct bytes){place.parent_bytes, directory->size};
    copy(place.parent_bytes, directory->data, directory->size);
    place.name = (struct bytes){place.name_bytes, 0};
    while (!last) {
        fip_bulk_args arguments = {
            {head.statement.hash, {hash_of(head.statement.hash)->length, (char *)head.tag}},
            {place.parent.size, place.parent.data},
            {place.name.size, place.name.data},
            most_entries,
            most_bytes,
        };
        fip_bulk_result result;
        fip_status status = CALL(FIPPROC_BULK, bulk, &arguments, &result);
        if (status == FIP_CHANGED)
            return false;
        if (status != FIP_OK)
            trouble_with_peer("the server does not give what is in the directory");
        last = take_page(&result.fip_bulk_result_u.ok, directory, &place);
        FREE(bulk, &result);
    }
    return true;
}

int main(int count, char **words)
{
    struct bytes directory;

    if (count < 8 || count > 9 || !parse_volume(words[3], expected.volume) || atoi(words[6]) < 3 ||
        atoi(words[6]) > FIP_ENTRIES_MAX || atoi(words[7]) < 0 || atoi(words[7]) > FIP_BULK_MAX) {
        fprintf(stderr, "usage: bulk HOST PORT VOLUME PATH CERTIFICATES COUNT MOST [NOW]\n");
        return 2;
    }
    directory = (struct bytes){words[4], strlen(words[4])};
    read_certificates(words[5], expected.certificates, PINS_MAX);
    expected.now = count == 9 ? strtoll(words[8], NULL, 10) : time(NULL);
    most_entries = atoi(words[6]);
    most_bytes = atoi(words[7]);
    connect_to(words[1], words[2]);
    begin_session(NULL);
    return print_under_one_head(read_below, &directory, &printed);
}
