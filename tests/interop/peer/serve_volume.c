/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* From a tree of files, the head of its volume and the size of a unit, all else follows: entries, statements, and
 * trees. They are made here, and have to come to the root that was signed. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "entries.h"
#include "paths.h"
#include "served.h"

static const char KEPT[] = ".nfsverity"; /* at the root, where a publisher of ours keeps what it published */

struct found {
    fim_entry entry;
    struct object object;
};

/* A walk. */
struct walk {
    const struct hash *hash;
    unsigned int unit_log2;
    struct found *list;
    size_t count, room;
    bool failed;
};

static struct bytes kept(const void *data, size_t size)
{
    struct bytes bytes = {allocated(size), size};

    copy(bytes.data, data, size);
    return bytes;
}

static struct bytes joined(const struct bytes *parent, const char *name)
{
    size_t size = strlen(name), start = parent->size + (parent->size > 0);
    struct bytes path = {allocated(start + size), start + size};

    copy(path.data, parent->data, parent->size);
    if (parent->size > 0)
        path.data[parent->size] = '/';
    copy(path.data + start, name, size);
    return path;
}

static bool take_file(struct walk *walk, struct found *found, int directory, const char *name)
{
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct object *object = &found->object;
    fim_entry_file *file = &found->entry.node.fim_node_u.file;
    fim_statement statement = {.magic = FIM_MAGIC, .format = FIM_FORMAT, .hash = walk->hash->number};
    fim_content *content = &statement.claim.fim_claim_u.content;
    unsigned char root[HASH_MAX];
    struct stat status;
    char encoded[FIM_STATEMENT_MAX];
    XDR xdrs;

    if (fd < 0 || fstat(fd, &status) != 0)
        return false;
    make_tree(&object->nodes.tree, walk->hash, walk->unit_log2, status.st_size);
    object->has_nodes = hash_content(&object->nodes, fd);
    close(fd);
    if (!object->has_nodes)
        return false;
    root_of(&object->nodes, root);
    statement.claim.kind = FIM_CONTENT;
    content->mtime = (fim_time){status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    content->tree = (fim_tree){FIM_TREE_RFC9162, walk->unit_log2, status.st_size, {walk->hash->length, (char *)root}};
    xdrmem_create(&xdrs, encoded, sizeof encoded, XDR_ENCODE);
    if (!xdr_fim_statement(&xdrs, &statement))
        abort();
    object->is_file = true;
    object->statement = kept(encoded, XDR_GETPOS(&xdrs));
    digest(walk->hash, object->statement.data, object->statement.size, object->tag);
    file->executable = (status.st_mode & S_IXUSR) != 0;
    file->content = (fim_hash){walk->hash->length, kept(object->tag, walk->hash->length).data};
    return true;
}

static void walk_directory(struct walk *walk, int directory, const struct bytes *path);

static void take(struct walk *walk, int directory, const struct bytes *parent, const char *name)
{
    struct found found = {0};
    struct stat status;
    struct bytes path = joined(parent, name);
    char target[4096];
    ssize_t length;

    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        walk->failed = true;
        return;
    }
    found.entry.parent = (fim_path){parent->size, parent->data};
    found.entry.name = (fim_name){strlen(name), path.data + path.size - strlen(name)};
    found.object = make_object(path, false);
    if (S_ISDIR(status.st_mode)) {
        int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        found.entry.node.type = FIM_ENTRY_DIRECTORY;
        walk_directory(walk, fd, &found.object.path);
    } else if (S_ISLNK(status.st_mode)) {
        length = readlinkat(directory, name, target, sizeof target);
        walk->failed = walk->failed || length < 0;
        found.entry.node.type = FIM_ENTRY_LINK;
        found.entry.node.fim_node_u.target.target_len = length;
        found.entry.node.fim_node_u.target.target_val = kept(target, length < 0 ? 0 : length).data;
    } else if (S_ISREG(status.st_mode)) {
        found.entry.node.type = FIM_ENTRY_FILE;
        if (!take_file(walk, &found, directory, name))
            walk->failed = true;
    } else {
        return; /* it has no entry */
    }
    if (walk->count == walk->room) {
        walk->room = 2 * walk->room + 64;
        walk->list = realloc(walk->list, walk->room * sizeof *walk->list);
        if (walk->list == NULL)
            abort();
    }
    walk->list[walk->count++] = found;
}

static void walk_directory(struct walk *walk, int directory, const struct bytes *path)
{
    DIR *stream = directory < 0 ? NULL : fdopendir(directory);
    struct dirent *one;

    if (stream == NULL) {
        walk->failed = true;
        return;
    }
    while ((one = readdir(stream)) != NULL)
        if (strcmp(one->d_name, ".") != 0 && strcmp(one->d_name, "..") != 0 &&
            !(path->size == 0 && strcmp(one->d_name, KEPT) == 0))
            take(walk, directory, path, one->d_name);
    closedir(stream);
}

static int by_place(const void *one, const void *two)
{
    const fim_entry *entry = &((const struct found *)two)->entry;
    struct bytes parent = {entry->parent.fim_path_val, entry->parent.fim_path_len};
    struct bytes name = {entry->name.fim_name_val, entry->name.fim_name_len};

    return compare_place(&((const struct found *)one)->entry, &parent, &name);
}

/* What was found, in order, as objects and as entries with their tree. */
static void arrange(struct served *served, struct walk *walk)
{
    struct volume *volume = served->volume;
    const struct hash *hash = served->hash;
    unsigned char *leaves = allocated(walk->count * hash->length);

    if (walk->count > 0)
        qsort(walk->list, walk->count, sizeof *walk->list, by_place);
    volume->entries = allocated(walk->count * sizeof *volume->entries);
    served->objects = allocated((walk->count + 1) * sizeof *served->objects);
    served->objects[0] = make_object((struct bytes){NULL, 0}, false);
    served->count = 1;
    for (size_t i = 0; i < walk->count; i++) {
        struct found *found = &walk->list[i];
        volume->entries[i] = found->entry;
        leaf_of_entry(hash, &found->entry, leaves + i * hash->length);
        found->object.entry = i;
        if (found->entry.node.type != FIM_ENTRY_LINK)
            served->objects[served->count++] = found->object;
    }
    volume->nodes.tree = tree_of_entries(walk->count, hash);
    make_nodes(&volume->nodes, leaves);
    free(walk->list);
}

/* The statement in a record; it is kept. */
static bool statement_of(const struct bytes *record, fim_kind kind, fim_record *decoded, fim_statement *statement)
{
    struct bytes encoded;

    if (!decode_canonical((xdrproc_t)xdr_fim_record, record, decoded, sizeof *decoded))
        return false;
    encoded = (struct bytes){decoded->statement.statement_val, decoded->statement.statement_len};
    return decode_canonical((xdrproc_t)xdr_fim_statement, &encoded, statement, sizeof *statement) &&
           statement->claim.kind == kind && hash_of(statement->hash) != NULL && hash_of(statement->hash)->name != NULL;
}

bool load_volume(struct served *served, const char *exported, const char *tree)
{
    struct bytes given = read_file(exported), head, record;
    fim_exported decoded;
    fim_record head_record, member_record;
    fim_statement statement, member;
    const fim_volume *claim = &statement.claim.fim_claim_u.volume;
    unsigned char root[HASH_MAX];
    struct walk walk = {0};
    struct bytes empty = {NULL, 0};

    if (!decode_canonical((xdrproc_t)xdr_fim_exported, &given, &decoded, sizeof decoded)) {
        fprintf(stderr, "no exported member\n");
        return false;
    }
    head = (struct bytes){decoded.head.head_val, decoded.head.head_len};
    record = (struct bytes){decoded.record.record_val, decoded.record.record_len};
    if (!statement_of(&head, FIM_VOLUME, &head_record, &statement) ||
        !statement_of(&record, FIM_CONTENT, &member_record, &member)) {
        fprintf(stderr, "no volume that can be served\n");
        return false;
    }
    walk.hash = hash_of(statement.hash);
    walk.unit_log2 = member.claim.fim_claim_u.content.tree.unit_log2;
    if (walk.unit_log2 < FIM_UNIT_LOG2_MIN || walk.unit_log2 > FIM_UNIT_LOG2_MAX) {
        fprintf(stderr, "no unit of this size\n");
        return false;
    }
    *served = (struct served){.hash = walk.hash, .root = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    walk_directory(&walk, dup(served->root), &empty);
    if (walk.failed) {
        fprintf(stderr, "not all of the tree can be read\n");
        return false;
    }
    served->volume = allocated(sizeof *served->volume);
    arrange(served, &walk);
    served->objects[0].record = head;
    digest(walk.hash, head_record.statement.statement_val, head_record.statement.statement_len, served->volume->tag);
    root_of(&served->volume->nodes, root);
    if (served->volume->nodes.tree.n != claim->entries || claim->root.fim_hash_len != walk.hash->length ||
        compare(root, claim->root.fim_hash_val, walk.hash->length) != 0) {
        fprintf(stderr, "the tree is not what the head says\n");
        return false;
    }
    return true;
}
