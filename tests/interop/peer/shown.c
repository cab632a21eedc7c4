/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Tells what is shown by entries and ranges of them that lie in files.
 *
 * usage: shown entry FILE
 *        shown range HASH ENTRIES ROOT FILE
 *        shown at HASH ENTRIES ROOT PATH FILE
 *        shown list HASH ENTRIES ROOT PARENT FILE ...
 *
 * HASH and ENTRIES are numbers, ROOT, PATH and PARENT in hexadecimal. Prints ok, malformed, mismatch or refused; behind
 * ok, for an entry its leaf under SHA-256, for `at` the leaf of what is at PATH, or none, for a list the name of each
 * entry, all in hexadecimal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "entries.h"
#include "paths.h"
#include "ranges.h"

static struct verified head;

static struct bytes of_hexadecimal(const char *text)
{
    struct bytes found = {allocated(strlen(text) / 2 + 1), strlen(text) / 2};

    for (size_t i = 0; i < found.size; i++) {
        unsigned int byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            exit(2);
        found.data[i] = (char)byte;
    }
    return found;
}

static void print_hexadecimal(const void *data, size_t size)
{
    putchar(' ');
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const unsigned char *)data)[i]);
}

static int end_with(const char *verdict)
{
    if (verdict != NULL)
        printf("%s\n", strcmp(verdict, NOT_SHOWN) == 0 ? "refused" : verdict);
    return verdict != NULL;
}

static void print_leaf(const struct hash *hash, const fim_entry *entry)
{
    unsigned char out[HASH_MAX];

    leaf_of_entry(hash, entry, out);
    print_hexadecimal(out, hash->length);
}

static int show_entry(const char *file)
{
    struct bytes data = read_file(file);
    fim_entry entry;

    if (!decode_canonical((xdrproc_t)xdr_fim_entry, &data, &entry, sizeof entry) || !is_sound_entry(&entry))
        return end_with("malformed");
    printf("ok");
    print_leaf(hash_of(FIM_HASH_SHA256), &entry);
    putchar('\n');
    return 0;
}

static bool read_range(const char *file, fim_range *range)
{
    struct bytes data = read_file(file);

    return decode_canonical((xdrproc_t)xdr_fim_range, &data, range, sizeof *range);
}

static int show_range(const char *file)
{
    fim_range range;

    if (end_with(read_range(file, &range) ? verify_range(&head, &range) : "malformed"))
        return 1;
    printf("ok\n");
    return 0;
}

static int show_at(const struct bytes *path, const char *file)
{
    struct bytes parent, name;
    const fim_entry *found;
    fim_range range;

    split_path(path, &parent, &name);
    if (end_with(read_range(file, &range) ? find_entry(&head, &range, &parent, &name, &found) : "malformed"))
        return 1;
    printf("ok");
    if (found == NULL)
        printf(" none");
    else
        print_leaf(head.tree.hash, found);
    putchar('\n');
    return 0;
}

static int show_list(const struct bytes *directory, char **files, int count)
{
    char name[255];
    struct bytes after = {name, 0};
    fim_range *ranges = allocated((count + 1) * sizeof *ranges);
    struct listed *pages = allocated((count + 1) * sizeof *pages);
    bool last = false;

    memset(pages, 0, (count + 1) * sizeof *pages);
    for (int i = 0; i < count; i++) {
        if (last) /* there is one more than there should be */
            return end_with(NOT_SHOWN);
        pages[i].next = i > 0 ? pages[i - 1].next : 0;
        if (end_with(read_range(files[i], &ranges[i]) ? verify_range(&head, &ranges[i]) : "malformed"))
            return 1;
        if (!take_listed(&head, &ranges[i], directory, &after, &pages[i]))
            return end_with(NOT_SHOWN);
        last = pages[i].last;
    }
    if (!last)
        return end_with(NOT_SHOWN);
    printf("ok");
    for (int i = 0; i < count; i++)
        for (u_int at = pages[i].first; at < pages[i].end; at++) {
            fim_name *one = &ranges[i].entries.entries_val[at].name;
            print_hexadecimal(one->fim_name_val, one->fim_name_len);
        }
    putchar('\n');
    return 0;
}

int main(int count, char **words)
{
    fim_volume *volume = &head.statement.claim.fim_claim_u.volume;
    struct bytes root, path = {NULL, 0};
    const char *what = count > 1 ? words[1] : "";

    if (count == 3 && strcmp(what, "entry") == 0)
        return show_entry(words[2]);
    if (count < 6)
        return 2;
    head.statement.hash = atoi(words[2]);
    head.tree.hash = hash_of(head.statement.hash);
    volume->entries = strtoull(words[3], NULL, 10);
    root = of_hexadecimal(words[4]);
    volume->root = (fim_hash){root.size, root.data};
    if (head.tree.hash == NULL || root.size != head.tree.hash->length)
        return 2;
    if (count == 6 && strcmp(what, "range") == 0)
        return show_range(words[5]);
    path = of_hexadecimal(words[5]);
    if (count == 7 && strcmp(what, "at") == 0)
        return show_at(&path, words[6]);
    if (strcmp(what, "list") == 0)
        return show_list(&path, words + 6, count - 6);
    return 2;
}
