/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Lists a directory of a volume, verified: all of it, under one head.
 *
 * usage: listing HOST PORT VOLUME PATH CERTIFICATES COUNT [NOW [MARKS]]
 *
 * MARKS is the file in which marks are kept. PATH is empty for the root; of a file or link, itself is listed. COUNT is how many entries are asked for at once.
 * Prints for each entry a letter (f, x for an executable file, l, d), its name and, of a link, the target; each ends
 * with a zero byte, which is in no name. The listing is whole if the exit status is 0; else it is as that of `peer`.
 *
 * Written from "Ranges of Entries" of File Integrity Metadata, and "ENTRIES" of the protocol. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "calls.h"
#include "entries.h"
#include "paths.h"
#include "ranges.h"
#include "session.h"

static unsigned int most;
static bool listed; /* an entry has been printed */

static void print_entry(const fim_entry *entry)
{
    const fim_node *node = &entry->node;
    char letter = node->type == FIM_ENTRY_DIRECTORY ? 'd' : node->type == FIM_ENTRY_LINK ? 'l' : 'f';

    if (node->type == FIM_ENTRY_FILE && node->fim_node_u.file.executable)
        letter = 'x';
    printf("%c%c", letter, 0);
    fwrite(entry->name.fim_name_val, 1, entry->name.fim_name_len, stdout);
    putchar(0);
    if (node->type == FIM_ENTRY_LINK) {
        fwrite(node->fim_node_u.target.target_val, 1, node->fim_node_u.target.target_len, stdout);
        putchar(0);
    }
    listed = true;
}

/* ENTRIES at a place. False: the server has another head. */
static bool ask_entries(const struct bytes *parent, const struct bytes *name, fip_entries_result *result)
{
    fip_entries_args arguments = {
        {head.statement.hash, {hash_of(head.statement.hash)->length, (char *)head.tag}},
        {parent->size, parent->data},
        {name->size, name->data},
        most,
    };
    fip_status status = CALL(FIPPROC_ENTRIES, entries, &arguments, result);

    if (status == FIP_CHANGED)
        return false;
    if (status != FIP_OK)
        trouble_with_peer("the server does not show what is in the directory");
    if (result->fip_entries_result_u.ok.range.entries.entries_len > most)
        trouble_with_peer("malformed-reply: more entries than were asked for");
    return true;
}

static void refuse(const char *verdict)
{
    if (verdict == NULL)
        return;
    if (strcmp(verdict, NOT_SHOWN) == 0)
        trouble_with_peer("malformed-reply: a range that does not show what it was asked for");
    end_with(verdict);
}

/* False: the head changed. */
static bool list_directory(const struct bytes *directory)
{
    char name[255];
    struct bytes after = {name, 0};
    struct listed page = {0};

    while (!page.last) {
        fip_entries_result result;
        const fim_range *range;
        if (!ask_entries(directory, &after, &result))
            return false;
        range = &result.fip_entries_result_u.ok.range;
        refuse(verify_range(&head, range));
        if ((range->entries.entries_len > 0 && !begins_at(range, directory, &after)) || /* fip-entries-1 */
            !take_listed(&head, range, directory, &after, &page))
            refuse(NOT_SHOWN);
        for (u_int i = page.first; i < page.end; i++)
            print_entry(&range->entries.entries_val[i]);
        if (!page.last && page.first == page.end)
            trouble_with_peer("malformed-reply: a listing that does not go on");
        FREE(entries, &result);
    }
    return true;
}

/* What is at the path, by its own entry; a directory is then listed. False: the head changed. */
static bool list_path(const struct bytes *path)
{
    struct bytes parent, name;
    const fim_entry *found;
    fip_entries_result result;
    bool is_directory;

    if (path->size == 0)
        return list_directory(path);
    split_path(path, &parent, &name);
    if (!ask_entries(&parent, &name, &result))
        return false;
    refuse(find_entry(&head, &result.fip_entries_result_u.ok.range, &parent, &name, &found));
    if (!begins_at(&result.fip_entries_result_u.ok.range, &parent, &name))
        refuse(NOT_SHOWN);
    if (found == NULL)
        end_with("absent");
    is_directory = found->node.type == FIM_ENTRY_DIRECTORY;
    if (!is_directory)
        print_entry(found);
    FREE(entries, &result);
    return !is_directory || list_directory(path);
}

int main(int count, char **words)
{
    if (count < 7 || count > 9 || !parse_volume(words[3], expected.volume) || atoi(words[6]) < 3 ||
        atoi(words[6]) > FIP_ENTRIES_MAX) {
        fprintf(stderr, "usage: listing HOST PORT VOLUME PATH CERTIFICATES COUNT [NOW [MARKS]]\n");
        return 2;
    }
    expected.path = (struct bytes){words[4], strlen(words[4])};
    read_certificates(words[5], expected.certificates, PINS_MAX);
    expected.now = count >= 8 ? strtoll(words[7], NULL, 10) : time(NULL);
    most = atoi(words[6]);
    connect_to(words[1], words[2]);
    begin_session(count == 9 ? words[8] : NULL);
    return print_under_one_head(list_path, &expected.path, &listed);
}
