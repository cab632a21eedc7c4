/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Serves by the File Integrity Protocol, with all profiles that there are for it: one signed file, at the path that
 * its record has, or a tree of files as a volume.
 *
 * usage: serve RECORD DATA CERTIFICATE [REVOCATION]
 *        serve -v EXPORTED TREE CERTIFICATE [REVOCATION]
 *
 * RECORD, DATA and REVOCATION are files, CERTIFICATE is one in PEM. TREE is the directory that was signed, and EXPORTED
 * a fim_exported of one of its files, from which the head is taken, and the unit size of all files: entries, statements
 * and trees are made anew, and nothing is served that does not come to the signed root. With SIGHUP it reads EXPORTED and
 * TREE again, and prints a line when it is done: it serves the new head if the tree is what it says, and else goes on.
 *
 * It listens at a free port of 127.0.0.1, prints the port, and ends when its standard input does. Nothing is verified:
 * that is the client's affair.
 *
 * Written from the text of the drafts, around the service stub that rpcgen makes. The stub's decoders take
 * arguments that are not canonical; such calls are GARBAGE_ARGS in the draft, and answered here. The server answers
 * one call after the other, and so ends every poll at once. */
#define _GNU_SOURCE /* ppoll */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netinet/in.h>

#include "arguments.h"
#include "paths.h"
#include "served.h"

void fip_program_1(struct svc_req *request, SVCXPRT *transport); /* made by rpcgen */

#define ANSWER(result, number) return ((result).status = (number), &(result))
enum { HOLES_MAX = 256 };

static struct served served;
static struct bytes certificate, revocation;

/* Objects */

static fip_handle handle_of(const struct object *object)
{
    return (fip_handle){HANDLE, (char *)object->handle};
}

static fip_attributes attributes_of(const struct object *object, const struct stat *status)
{
    fip_attributes attributes = {.type = FIP_DIRECTORY};

    if (object->is_file) {
        attributes.type = FIP_FILE;
        attributes.has_record = TRUE;
        attributes.executable = (status->st_mode & S_IXUSR) != 0;
        attributes.size = status->st_size;
        attributes.mtime.seconds = status->st_mtim.tv_sec;
        attributes.mtime.nseconds = status->st_mtim.tv_nsec;
    }
    return attributes;
}

/* The object of a handle, as long as it is there (fip-handle-5). */
static fip_status find(const fip_handle *handle, const struct object **object, int *fd, struct stat *status)
{
    fip_status opened = FIP_NOT_FOUND;

    *object = find_handle(&served, handle);
    if (*object != NULL)
        opened = open_object(&served, *object, fd, status);
    return opened == FIP_NOT_FOUND ? FIP_BAD_HANDLE : opened;
}

/* Versions */

static bool has_length(unsigned int number, const fim_hash *value)
{
    const struct hash *hash = hash_of(number);

    return hash == NULL || value->fim_hash_len == hash->length;
}

static bool is_tag(const fim_tag *named, const unsigned char *tag)
{
    return named->hash == served.hash->number && compare(named->digest.fim_hash_val, tag, served.hash->length) == 0;
}

/* A call about a version: its object, content and how large that is now. */
struct asked {
    const struct object *object;
    int fd;
    uint64_t size;
};

/* The statuses of a call about the version that `named` names, in the order of fip-status-2, up to the CHANGED of the
 * tag. `arguments` are the rules that need no look at a file. */
static fip_status ask(const fip_handle *handle, const fim_tag *named, bool arguments, struct asked *asked)
{
    struct stat status;
    fip_status found;

    if (!arguments || !has_length(named->hash, &named->digest))
        return FIP_INVALID;
    found = find(handle, &asked->object, &asked->fd, &status);
    if (found != FIP_OK)
        return found;
    asked->size = status.st_size;
    if (asked->object->is_file && is_tag(named, asked->object->tag))
        return FIP_OK;
    close(asked->fd);
    return asked->object->is_file ? FIP_CHANGED : FIP_IS_DIRECTORY;
}

static bool is_content(const struct asked *asked)
{
    return asked->object->has_nodes && asked->size == asked->object->nodes.tree.size;
}

static fip_proof proof_of(const struct nodes *nodes, uint64_t a, uint64_t b, unsigned int level)
{
    static char data[PROOF_MAX];

    return (fip_proof){prove_range(nodes, a, b, level, data), data};
}

static bool fits(uint64_t first, uint64_t count, uint64_t whole)
{
    return count <= whole && first <= whole - count;
}

/* `known` of a call, and the SHA-256 of what is there. */
static bool is_known(const char *known, u_int length, const struct bytes *current)
{
    unsigned char value[HASH_MAX];

    digest(hash_of(FIM_HASH_SHA256), current->data, current->size, value);
    return length == 32 && compare(known, value, 32) == 0;
}

/* Procedures, in the order of their numbers */

void *fipproc_null_1_svc(void *arguments, struct svc_req *request)
{
    (void)arguments, (void)request;
    return &served; /* anything but NULL: there is a reply, and nothing in it */
}

fip_limits_result *fipproc_limits_1_svc(void *arguments, struct svc_req *request)
{
    static fip_limits_result result;
    static u_int hash, type = FIM_TREE_RFC9162;
    fip_limits_ok *ok = &result.fip_limits_result_u.ok;
    u_int profiles = FIP_CAP_CORE | FIP_CAP_DATA | (served.volume == NULL ? 0 : FIP_CAP_VOLUME);

    (void)arguments, (void)request;
    hash = served.hash->number;
    *ok = (fip_limits_ok){profiles, FIP_DATA_MAX, FIP_TREE_MAX, FIP_CALLS_MIN, 0, {1, &hash}, {1, &type}};
    ANSWER(result, FIP_OK);
}

fip_resolve_result *fipproc_resolve_1_svc(fip_resolve_args *arguments, struct svc_req *request)
{
    static fip_resolve_result result;
    const struct object *object;
    struct stat of_file;
    int fd;
    fip_status status = resolve(&served, &arguments->base, &arguments->path, &object);

    (void)request;
    if (status == FIP_OK)
        status = open_object(&served, object, &fd, &of_file);
    if (status == FIP_OK) {
        close(fd);
        result.fip_resolve_result_u.ok.object = handle_of(object);
        result.fip_resolve_result_u.ok.attributes = attributes_of(object, &of_file);
    }
    ANSWER(result, status);
}

fip_record_result *fipproc_record_1_svc(fip_record_args *arguments, struct svc_req *request)
{
    static fip_record_result result;
    fip_record_ok *ok = &result.fip_record_result_u.ok;
    const struct object *object;
    struct bytes record;
    struct stat of_file;
    fip_status status;
    int fd;

    (void)request;
    if ((arguments->known.known_len != 0 && arguments->known.known_len != 32) || arguments->wait > FIP_WAIT_MAX)
        ANSWER(result, FIP_INVALID);
    status = find(&arguments->object, &object, &fd, &of_file);
    if (status != FIP_OK)
        ANSWER(result, status);
    close(fd);
    if (!object->is_file && object->record.data == NULL)
        ANSWER(result, FIP_IS_DIRECTORY);
    record = record_of(&served, object);
    if (is_known(arguments->known.known_val, arguments->known.known_len, &record))
        ANSWER(result, FIP_UNCHANGED); /* a poll, ended early (fip-poll-3) */
    ok->record.record_len = record.size;
    ok->record.record_val = record.data;
    ANSWER(result, FIP_OK);
}

fip_certificate_result *fipproc_certificate_1_svc(fip_certificate_args *arguments, struct svc_req *request)
{
    static fip_certificate_result result;
    static fip_der der;
    fip_certificate_ok *ok = &result.fip_certificate_result_u.ok;
    const fim_fingerprint *asked = &arguments->fingerprint;
    const struct hash *hash = hash_of(asked->hash);
    unsigned char found[HASH_MAX];

    (void)request;
    if (!has_length(asked->hash, &asked->digest))
        ANSWER(result, FIP_INVALID);
    if (hash == NULL || hash->name == NULL)
        ANSWER(result, FIP_NOT_FOUND);
    digest(hash, certificate.data, certificate.size, found);
    if (compare(found, asked->digest.fim_hash_val, hash->length) != 0)
        ANSWER(result, FIP_NOT_FOUND);
    der = (fip_der){certificate.size, certificate.data};
    ok->certificates.certificates_len = 1;
    ok->certificates.certificates_val = &der;
    ANSWER(result, FIP_OK);
}

fip_tree_result *fipproc_tree_1_svc(fip_tree_args *arguments, struct svc_req *request)
{
    static fip_tree_result result;
    struct asked asked;
    uint64_t first = arguments->first, count = arguments->count;
    fip_status status = ask(&arguments->object, &arguments->tag, count >= 1 && count <= FIP_TREE_MAX, &asked);

    (void)request;
    if (status == FIP_OK) {
        const struct nodes *nodes = &asked.object->nodes;
        unsigned int level = arguments->level;
        close(asked.fd);
        if (level > nodes->tree.height || !fits(first, count, ceil_div(nodes->tree.n, level)))
            ANSWER(result, FIP_INVALID);
        if (!asked.object->has_nodes)
            ANSWER(result, FIP_CHANGED);
        result.fip_tree_result_u.ok.hashes.hashes_len = count * served.hash->length;
        result.fip_tree_result_u.ok.hashes.hashes_val = (char *)nodes_at(nodes, level, first);
    }
    ANSWER(result, status);
}

fip_proof_result *fipproc_proof_1_svc(fip_proof_args *arguments, struct svc_req *request)
{
    static fip_proof_result result;
    struct asked asked;
    uint64_t a = arguments->first, b = a + arguments->count;
    bool under_one_node = arguments->level > 63 || a >> arguments->level == (b - 1) >> arguments->level;
    fip_status status = ask(&arguments->object, &arguments->tag, arguments->count >= 1 && under_one_node, &asked);

    (void)request;
    if (status == FIP_OK) {
        const struct nodes *nodes = &asked.object->nodes;
        close(asked.fd);
        if (arguments->level > nodes->tree.height || !fits(a, arguments->count, nodes->tree.n))
            ANSWER(result, FIP_INVALID);
        if (!asked.object->has_nodes)
            ANSWER(result, FIP_CHANGED);
        result.fip_proof_result_u.ok.proof = proof_of(nodes, a, b, arguments->level);
    }
    ANSWER(result, status);
}

/* The version of an open file, and its first units, of at most `most` bytes. */
static fip_status take_first(const struct object *object, int fd, const struct stat *of_file, u_int most,
                             fip_fetch_ok *ok)
{
    static char data[FIP_FETCH_MAX];
    const struct tree *tree = &object->nodes.tree;
    uint64_t units = tree->size <= most ? tree->n : most >> tree->unit_log2;
    struct bytes record = record_of(&served, object);

    if (!is_content(&(struct asked){object, fd, of_file->st_size}) ||
        !read_bytes(fd, 0, data, bytes_of(tree, 0, units)))
        return FIP_CHANGED;
    ok->object = handle_of(object);
    ok->record.record_len = record.size;
    ok->record.record_val = record.data;
    ok->proof = units == 0 ? (fip_proof){0, NULL} : proof_of(&object->nodes, 0, units, tree->height);
    ok->data.data_len = bytes_of(tree, 0, units);
    ok->data.data_val = data;
    return FIP_OK;
}

fip_fetch_result *fipproc_fetch_1_svc(fip_fetch_args *arguments, struct svc_req *request)
{
    static fip_fetch_result result;
    const struct object *object;
    struct stat of_file;
    fip_status status = FIP_INVALID;
    int fd;

    (void)request;
    if (arguments->most <= FIP_FETCH_MAX)
        status = resolve(&served, &arguments->base, &arguments->path, &object);
    if (status == FIP_OK && !object->is_file)
        status = FIP_IS_DIRECTORY;
    if (status == FIP_OK)
        status = open_object(&served, object, &fd, &of_file);
    if (status == FIP_OK) {
        status = take_first(object, fd, &of_file, arguments->most, &result.fip_fetch_result_u.ok);
        close(fd);
    }
    ANSWER(result, status);
}

static bool is_zero(const char *data, size_t size)
{
    return size == 0 || (data[0] == 0 && compare(data, data + 1, size - 1) == 0);
}

/* Slices of zeros are holes, as far as there may be holes; the others go to `packed`. */
static void pack(const char *data, size_t size, size_t slice, fip_read_ok *ok, char *packed)
{
    static fip_hole holes[HOLES_MAX];
    u_int count = 0, number = 0;

    ok->data.data_len = 0;
    ok->data.data_val = packed;
    for (size_t at = 0; at < size; at += slice, number++) {
        size_t length = size - at < slice ? size - at : slice;
        bool follows = count > 0 && holes[count - 1].first + holes[count - 1].count == number;
        if (is_zero(data + at, length) && follows) {
            holes[count - 1].count++;
        } else if (is_zero(data + at, length) && count < HOLES_MAX) {
            holes[count++] = (fip_hole){number, 1};
        } else {
            copy(packed + ok->data.data_len, data + at, length);
            ok->data.data_len += length;
        }
    }
    ok->holes.holes_len = count;
    ok->holes.holes_val = holes;
}

fip_read_result *fipproc_read_1_svc(fip_read_args *arguments, struct svc_req *request)
{
    static fip_read_result result;
    static char data[FIP_DATA_MAX], packed[FIP_DATA_MAX];
    struct asked asked;
    fip_status status = ask(&arguments->object, &arguments->tag, arguments->count >= 1, &asked);

    (void)request;
    if (status == FIP_OK) {
        fip_read_ok *ok = &result.fip_read_result_u.ok;
        const struct tree *tree = &asked.object->nodes.tree;
        unsigned int slice_log2 = tree->unit_log2 < 22 ? tree->unit_log2 : 22, k = tree->unit_log2 - slice_log2;
        uint64_t first = arguments->first, end = first + arguments->count, size = 0, a = 0, b = 0;
        bool range = fits(first, arguments->count, ceil_div(tree->size, slice_log2));
        if (range) {
            a = first >> k;
            b = ((end - 1) >> k) + 1;
            size = (end << slice_log2 < tree->size ? end << slice_log2 : tree->size) - (first << slice_log2);
            range = size <= FIP_DATA_MAX;
        }
        if (range && arguments->level != NULL)
            range = *arguments->level <= tree->height && a >> *arguments->level == (b - 1) >> *arguments->level;
        if (!range)
            status = FIP_INVALID;
        else if (!is_content(&asked) || !read_bytes(asked.fd, first << slice_log2, data, size))
            status = FIP_CHANGED; /* no new record is expected, so never UPDATING */
        close(asked.fd);
        if (status == FIP_OK) {
            ok->proof = arguments->level == NULL ? (fip_proof){0, NULL}
                                                 : proof_of(&asked.object->nodes, a, b, *arguments->level);
            pack(data, size, (size_t)1 << slice_log2, ok, packed);
        }
    }
    ANSWER(result, status);
}

static bool is_above(const struct bytes *name, const char *after, size_t size)
{
    int order = compare(name->data, after, name->size < size ? name->size : size);

    return order > 0 || (order == 0 && name->size > size);
}

/* Those in a directory are neighbours, in the order of their names. */
fip_readdir_result *fipproc_readdir_1_svc(fip_readdir_args *arguments, struct svc_req *request)
{
    static fip_readdir_result result;
    static fip_entry entries[FIP_ENTRIES_MAX];
    fip_readdir_ok *ok = &result.fip_readdir_result_u.ok;
    const struct object *directory;
    struct stat of_file;
    fip_status status;
    int fd;

    (void)request;
    if (arguments->count < 1 || arguments->count > FIP_ENTRIES_MAX)
        ANSWER(result, FIP_INVALID);
    status = find(&arguments->directory, &directory, &fd, &of_file);
    if (status != FIP_OK)
        ANSWER(result, status);
    close(fd);
    if (directory->is_file)
        ANSWER(result, FIP_NOT_DIRECTORY);
    ok->entries.entries_len = 0;
    ok->entries.entries_val = entries;
    ok->eof = TRUE;
    for (size_t i = 0; i < served.count && ok->eof; i++) {
        const struct object *object = &served.objects[i];
        struct bytes name;
        if (!is_child(object, directory, &name) ||
            !is_above(&name, arguments->after.after_val, arguments->after.after_len) ||
            open_object(&served, object, &fd, &of_file) != FIP_OK)
            continue;
        close(fd);
        ok->eof = ok->entries.entries_len < arguments->count;
        if (ok->eof)
            entries[ok->entries.entries_len++] =
                (fip_entry){{name.size, name.data}, handle_of(object), attributes_of(object, &of_file)};
    }
    ANSWER(result, FIP_OK);
}

fip_getattr_result *fipproc_getattr_1_svc(fip_getattr_args *arguments, struct svc_req *request)
{
    static fip_getattr_result result;
    const struct object *object;
    struct stat of_file;
    int fd;
    fip_status status = find(&arguments->object, &object, &fd, &of_file);

    (void)request;
    if (status == FIP_OK) {
        close(fd);
        result.fip_getattr_result_u.ok = attributes_of(object, &of_file);
    }
    ANSWER(result, status);
}

fip_revocation_result *fipproc_revocation_1_svc(fip_revocation_args *arguments, struct svc_req *request)
{
    static fip_revocation_result result;
    fip_revocation_ok *ok = &result.fip_revocation_result_u.ok;
    const struct object *object;
    struct stat of_file;
    fip_status status;
    int fd;

    (void)request;
    if (arguments->known.known_len != 0 && arguments->known.known_len != 32)
        ANSWER(result, FIP_INVALID);
    status = find(&arguments->object, &object, &fd, &of_file);
    if (status != FIP_OK)
        ANSWER(result, status);
    close(fd);
    if (revocation.data == NULL)
        ANSWER(result, FIP_UNSIGNED);
    if (is_known(arguments->known.known_val, arguments->known.known_len, &revocation))
        ANSWER(result, FIP_UNCHANGED);
    ok->record.record_len = revocation.size;
    ok->record.record_val = revocation.data;
    ANSWER(result, FIP_OK);
}

fip_plain_result *fipproc_plain_1_svc(fip_plain_args *arguments, struct svc_req *request)
{
    static fip_plain_result result;
    static char data[FIP_DATA_MAX];
    fip_plain_ok *ok = &result.fip_plain_result_u.ok;
    const struct object *object;
    struct stat of_file;
    uint64_t left;
    fip_status status;
    int fd;

    (void)request;
    if (arguments->count < 1 || arguments->count > FIP_DATA_MAX)
        ANSWER(result, FIP_INVALID);
    status = find(&arguments->object, &object, &fd, &of_file);
    if (status != FIP_OK)
        ANSWER(result, status);
    if (object->is_file) {
        ok->size = of_file.st_size;
        left = arguments->offset < ok->size ? ok->size - arguments->offset : 0;
        ok->eof = arguments->count >= left;
        ok->data.data_len = ok->eof ? left : arguments->count;
        ok->data.data_val = data;
        if (!read_bytes(fd, arguments->offset, data, ok->data.data_len))
            status = FIP_IO;
    } else {
        status = FIP_IS_DIRECTORY;
    }
    close(fd);
    ANSWER(result, status);
}

/* The statuses that ENTRIES and BULK have in common, and their range. */
static fip_status range_of(const fim_tag *head, const fim_path *parent, const char *name, u_int length, u_int count,
                           bool arguments, fim_range *range)
{
    static char proof[PROOF_MAX];
    struct bytes above = {parent->fim_path_val, parent->fim_path_len}, named = {(char *)name, length};

    if (served.volume == NULL)
        return FIP_NOT_SUPPORTED; /* fip-entries-4 */
    if (!arguments || count < 2 || count > FIP_ENTRIES_MAX || (above.size > 0 && !is_path(above.data, above.size)) ||
        (length > 0 && !is_name(name, length)) || !has_length(head->hash, &head->digest))
        return FIP_INVALID;
    if (!is_tag(head, served.volume->tag))
        return FIP_CHANGED;
    *range = range_at(served.volume, &above, &named, count, proof);
    return FIP_OK;
}

fip_entries_result *fipproc_entries_1_svc(fip_entries_args *arguments, struct svc_req *request)
{
    static fip_entries_result result;
    fip_status status = range_of(&arguments->head, &arguments->parent, arguments->name.name_val,
                                 arguments->name.name_len, arguments->count, true,
                                 &result.fip_entries_result_u.ok.range);

    (void)request;
    ANSWER(result, status);
}

/* The objects are in the order of the entries, of which they have one each, but for the root and for links. */
static const struct object *object_of(uint64_t entry)
{
    size_t low = 1, high = served.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (served.objects[middle].entry < entry)
            low = middle + 1;
        else
            high = middle;
    }
    return &served.objects[low];
}

/* The content of a file behind what is in `data`, if there is room for it and it is there. */
static fip_bulk_item item_of(const struct object *object, size_t most, char *data, u_int *size)
{
    struct asked asked = {object, -1, 0};
    struct stat of_file;
    fip_bulk_item item = {{object->statement.size, object->statement.data}, 0};
    uint64_t whole = object->nodes.tree.size;

    if (whole > most - *size || open_object(&served, object, &asked.fd, &of_file) != FIP_OK)
        return item;
    asked.size = of_file.st_size;
    if (is_content(&asked) && read_bytes(asked.fd, 0, data + *size, whole)) {
        item.length = whole;
        *size += whole;
    }
    close(asked.fd);
    return item;
}

fip_bulk_result *fipproc_bulk_1_svc(fip_bulk_args *arguments, struct svc_req *request)
{
    static fip_bulk_result result;
    static fip_bulk_item items[FIP_ENTRIES_MAX];
    static char data[FIP_BULK_MAX];
    fip_bulk_ok *ok = &result.fip_bulk_result_u.ok;
    fip_status status =
        range_of(&arguments->head, &arguments->parent, arguments->name.name_val, arguments->name.name_len,
                 arguments->count, arguments->most <= FIP_BULK_MAX, &ok->range);

    (void)request;
    if (status != FIP_OK)
        ANSWER(result, status);
    ok->items.items_len = ok->range.entries.entries_len;
    ok->items.items_val = items;
    ok->data.data_len = 0;
    ok->data.data_val = data;
    for (u_int i = 0; i < ok->items.items_len; i++) {
        const fim_entry *entry = &ok->range.entries.entries_val[i];
        items[i] = (fip_bulk_item){{0, NULL}, 0}; /* fip-bulk-3 */
        if (entry->node.type == FIM_ENTRY_FILE)
            items[i] = item_of(object_of(ok->range.first + i), arguments->most, data, &ok->data.data_len);
    }
    ANSWER(result, FIP_OK);
}

/* Connections */

static int listen_at_a_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        perror("listen");
        exit(4);
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* Registered for every connection, with protocol 0: no port mapper is told. libtirpc sends one fragment for each
 * buffer, so a reply is to fit one; its own listener has buffers of at most 64 KiB, and its last fragment is empty
 * when they are full to the end. */
static void accept_connection(int listener)
{
    int fd = accept(listener, NULL, NULL);
    SVCXPRT *transport;

    if (fd < 0)
        return;
    transport = svc_fd_create(fd, FIP_MESSAGE_MAX + 4, 65536);
    if (transport == NULL || !svc_register(transport, FIP_PROGRAM, FIP_V1, fip_program_1, 0))
        close(fd);
}

static volatile sig_atomic_t read_again;

static void hang_up(int number)
{
    (void)number;
    read_again = 1;
}

/* What was served before stays in memory: the system takes it back. */
static void load_again(char **words)
{
    struct served newer;

    read_again = 0;
    if (load_volume(&newer, words[2], words[3])) {
        served = newer;
        printf("new\n");
    } else {
        printf("not new\n");
    }
    fflush(stdout);
}

int main(int count, char **words)
{
    static const struct sigaction on_hang_up = {.sa_handler = hang_up};
    bool has_volume = count > 1 && strcmp(words[1], "-v") == 0;
    int first = has_volume ? 2 : 1, listener;
    sigset_t blocked, before; /* SIGHUP comes during the wait, and at no other time */

    if (count - first < 3 || count - first > 4) {
        fprintf(stderr, "usage: serve RECORD DATA CERTIFICATE [REVOCATION]\n"
                        "       serve -v EXPORTED TREE CERTIFICATE [REVOCATION]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGHUP);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    certificate = read_certificate(words[first + 2]);
    if (count - first == 4)
        revocation = read_file(words[first + 3]);
    if (!has_volume)
        load_file(&served, words[1], words[2]);
    else if (!load_volume(&served, words[2], words[3]))
        return 4;
    else
        sigaction(SIGHUP, &on_hang_up, NULL);
    listener = listen_at_a_free_port();
    for (;;) {
        int connections = svc_max_pollfd;
        struct pollfd *fds = allocated((connections + 2) * sizeof *fds);
        copy(fds, svc_pollfd, connections * sizeof *fds);
        fds[connections] = (struct pollfd){.fd = listener, .events = POLLIN};
        fds[connections + 1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        int ready = ppoll(fds, connections + 2, NULL, &before);
        if (read_again)
            load_again(words);
        if (ready > 0 && fds[connections + 1].revents != 0)
            return 0;
        if (ready > 0 && fds[connections].revents != 0) {
            accept_connection(listener);
            ready--;
        }
        if (ready > 0)
            svc_getreq_poll(fds, ready);
        free(fds);
    }
}
