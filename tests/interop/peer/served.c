/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "served.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "entries.h"
#include "paths.h"

enum { ENTRIES_BYTES = 1048576 }; /* what a range may be cut down to (fip-entries-5) */

/* Objects */

struct object make_object(struct bytes path, bool is_file)
{
    struct object object = {.path = path, .is_file = is_file};

    digest(hash_of(FIM_HASH_SHA256), path.data == NULL ? "" : path.data, path.size, object.handle);
    return object;
}

const struct object *find_handle(const struct served *served, const fip_handle *handle)
{
    if (handle->fip_handle_len == 0)
        return &served->objects[0];
    for (size_t i = 0; i < served->count && handle->fip_handle_len == HANDLE; i++)
        if (compare(served->objects[i].handle, handle->fip_handle_val, HANDLE) == 0)
            return &served->objects[i];
    return NULL;
}

bool is_child(const struct object *object, const struct object *directory, struct bytes *name)
{
    struct bytes parent;

    split_path(&object->path, &parent, name);
    return object->path.size > 0 && parent.size == directory->path.size &&
           compare(parent.data, directory->path.data, parent.size) == 0;
}

static const struct object *find_child(const struct served *served, const struct object *directory,
                                       const struct bytes *name)
{
    struct bytes found;

    for (size_t i = 0; i < served->count; i++)
        if (is_child(&served->objects[i], directory, &found) && found.size == name->size &&
            compare(found.data, name->data, name->size) == 0)
            return &served->objects[i];
    return NULL;
}

fip_status resolve(const struct served *served, const fip_handle *base, const fim_path *path,
                   const struct object **found)
{
    struct bytes rest = {path->fim_path_val, path->fim_path_len}, name;
    struct stat status;
    fip_status opened;
    int fd;

    if (rest.size > 0 && !is_path(rest.data, rest.size))
        return FIP_INVALID;
    *found = find_handle(served, base);
    if (*found == NULL)
        return FIP_BAD_HANDLE;
    while (next_name(&rest, &name)) {
        if ((*found)->is_file)
            return FIP_NOT_DIRECTORY;
        *found = find_child(served, *found, &name);
        if (*found == NULL)
            return FIP_NOT_FOUND; /* a link, too, which no object stands for (fip-server-5) */
    }
    opened = open_object(served, *found, &fd, &status);
    if (opened == FIP_OK)
        close(fd);
    return opened == FIP_NOT_FOUND && path->fim_path_len == 0 ? FIP_BAD_HANDLE : opened;
}

/* The storage */

/* Name by name, without following a link (fip-server-4). */
static int open_below(int root, struct bytes path, int how)
{
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct bytes name;

    while (fd >= 0 && next_name(&path, &name)) {
        char text[256] = {0};
        int below, error;
        copy(text, name.data, name.size);
        below = openat(fd, text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (path.size > 0 ? O_DIRECTORY : how));
        error = errno;
        close(fd);
        errno = error;
        fd = below;
    }
    return fd;
}

fip_status open_object(const struct served *served, const struct object *object, int *fd, struct stat *status)
{
    if (served->root >= 0)
        *fd = open_below(served->root, object->path, object->is_file ? 0 : O_DIRECTORY);
    else
        *fd = object->is_file ? open(served->data, O_RDONLY | O_CLOEXEC) : open("/", O_RDONLY | O_CLOEXEC);
    if (*fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return FIP_NOT_FOUND;
    if (*fd < 0)
        return errno == EACCES ? FIP_ACCESS : FIP_IO;
    if (fstat(*fd, status) != 0 || !(object->is_file ? S_ISREG(status->st_mode) : S_ISDIR(status->st_mode))) {
        close(*fd);
        return FIP_NOT_FOUND;
    }
    return FIP_OK;
}

bool read_bytes(int fd, uint64_t offset, char *out, size_t size)
{
    while (size > 0) {
        ssize_t count = pread(fd, out, size, offset);
        if (count <= 0)
            return false;
        out += count;
        offset += count;
        size -= count;
    }
    return true;
}

bool hash_content(struct nodes *nodes, int fd)
{
    const struct tree *tree = &nodes->tree;
    unsigned char *leaves;
    struct stat status;
    char *unit;
    bool whole = fstat(fd, &status) == 0 && (uint64_t)status.st_size == tree->size;

    if (!whole)
        return false;
    leaves = allocated(tree->n * tree->hash->length);
    unit = allocated((size_t)1 << tree->unit_log2);
    for (uint64_t j = 0; j < tree->n && whole; j++) {
        size_t size = bytes_of(tree, j, j + 1);
        whole = read_bytes(fd, j << tree->unit_log2, unit, size);
        leaf(tree->hash, unit, size, leaves + j * tree->hash->length);
    }
    free(unit);
    if (whole)
        make_nodes(nodes, leaves);
    else
        free(leaves);
    return whole;
}

/* The volume */

fim_range range_at(const struct volume *volume, const struct bytes *parent, const struct bytes *name, uint64_t count,
                   char *proof)
{
    uint64_t low = 0, high = volume->nodes.tree.n, end;
    size_t bytes = 0;
    fim_range range = {0};

    while (low < high) { /* the first entry at the place or behind it */
        uint64_t middle = low + (high - low) / 2;
        if (compare_place(&volume->entries[middle], parent, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    range.first = low > 0 ? low - 1 : 0; /* fip-entries-1 */
    for (end = range.first; end < volume->nodes.tree.n && end - range.first < count; end++) {
        bytes += xdr_sizeof((xdrproc_t)xdr_fim_entry, &volume->entries[end]);
        if (end - range.first >= 2 && bytes > ENTRIES_BYTES)
            break;
    }
    if (end == range.first)
        return range;
    range.entries.entries_len = end - range.first;
    range.entries.entries_val = volume->entries + range.first;
    range.proof.proof_val = proof;
    range.proof.proof_len = prove_range(&volume->nodes, range.first, end, volume->nodes.tree.height, proof);
    return range;
}

static void encode(xdrproc_t xdr, void *value, char *out, size_t room, u_int *size)
{
    XDR xdrs;

    xdrmem_create(&xdrs, out, room, XDR_ENCODE);
    if (!xdr(&xdrs, value))
        abort();
    *size = XDR_GETPOS(&xdrs);
}

struct bytes record_of(const struct served *served, const struct object *object)
{
    static char body[FIM_RECORD_MAX], data[FIM_RECORD_MAX], proof[PROOF_MAX];
    const struct volume *volume = served->volume;
    fim_membership membership = {0};
    fim_attestation attestation = {FIM_MEMBERSHIP, {0, body}};
    fim_record record = {{object->statement.size, object->statement.data}, {1, &attestation}};
    u_int size;

    if (object->record.data != NULL)
        return object->record;
    membership.head = (fim_tag){served->hash->number, {served->hash->length, (char *)volume->tag}};
    membership.range.first = object->entry;
    membership.range.entries.entries_len = 1;
    membership.range.entries.entries_val = &volume->entries[object->entry];
    membership.range.proof.proof_val = proof;
    membership.range.proof.proof_len =
        prove_range(&volume->nodes, object->entry, object->entry + 1, volume->nodes.tree.height, proof);
    encode((xdrproc_t)xdr_fim_membership, &membership, body, sizeof body, &attestation.body.body_len);
    encode((xdrproc_t)xdr_fim_record, &record, data, sizeof data, &size);
    return (struct bytes){data, size};
}
