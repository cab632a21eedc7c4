/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* What is served: files and directories, and the volume that they are in, if there is one. */
#ifndef SERVED_H
#define SERVED_H

#include <stdbool.h>
#include <sys/stat.h>

#include "canonical.h"
#include "fip.h"
#include "nodes.h"

enum { HANDLE = 32 };

struct object {
    struct bytes path;
    bool is_file;
    unsigned char handle[HANDLE]; /* the SHA-256 of the path, so it stands for the object after a restart, too */
    struct bytes record;          /* of a file that has one alone; of the root of a volume its head */

    /* of a file */
    struct bytes statement;
    unsigned char tag[HASH_MAX]; /* its number is that of the tree's hash */
    struct nodes nodes;          /* without units if the content had another size when it was read */
    bool has_nodes;
    uint64_t entry; /* the index, in a volume */
};

struct volume {
    unsigned char tag[HASH_MAX];
    fim_entry *entries;
    struct nodes nodes;
};

struct served {
    struct object *objects; /* in the order of their places; the root is the first */
    size_t count;
    struct volume *volume; /* NULL: there is none */
    const struct hash *hash;
    int root;              /* the directory that has the contents; or -1, and then the one content is at `data` */
    const char *data;
};

/* One file, at the path that its record has (serve_file.c). */
void load_file(struct served *served, const char *record, const char *data);
/* A tree of files, as the volume whose head is in a fim_exported of one of its files (serve_volume.c). False, and a
 * word on standard error: the tree is not what the head says. */
bool load_volume(struct served *served, const char *exported, const char *tree);

/* For who loads. The hash of `nodes->tree`, unit size and size are set; false if the content has not this size. */
bool hash_content(struct nodes *nodes, int fd);
struct object make_object(struct bytes path, bool is_file);

/* The file or directory of an object, as the storage has it now. A status that is not OK says why it cannot be had. */
fip_status open_object(const struct served *served, const struct object *object, int *fd, struct stat *status);
/* Bytes of a file, all of them or none. */
bool read_bytes(int fd, uint64_t offset, char *out, size_t size);

const struct object *find_handle(const struct served *served, const fip_handle *handle);
/* The object at a path below a base. */
fip_status resolve(const struct served *served, const fip_handle *base, const fim_path *path,
                   const struct object **found);
bool is_child(const struct object *object, const struct object *directory, struct bytes *name);

/* The record of a file; in a volume it is made here, and is there until the next call. */
struct bytes record_of(const struct served *served, const struct object *object);
/* "ENTRIES": the range at a place, its entries and proof; `proof` has room for PROOF_MAX bytes. */
fim_range range_at(const struct volume *volume, const struct bytes *parent, const struct bytes *name, uint64_t count,
                   char *proof);

#endif
