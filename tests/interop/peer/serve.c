/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Serves one signed file by the File Integrity Protocol, with both profiles, at the path that its record has.
 *
 * usage: serve RECORD DATA CERTIFICATE [REVOCATION]
 *
 * RECORD, DATA and REVOCATION are files, CERTIFICATE is one in PEM. It listens at a free port of 127.0.0.1, prints the port, and
 * ends when its standard input does. Nothing is verified: that is the client's affair.
 *
 * Written from the text of the drafts, around the service stub that rpcgen makes. The stub's decoders take
 * arguments that are not canonical; such calls are GARBAGE_ARGS in the draft, and answered here. The server answers
 * one call after the other, and so ends every poll at once. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <netinet/in.h>

#include "arguments.h"
#include "canonical.h"
#include "fip.h"
#include "tree.h"

void fip_program_1(struct svc_req *request, SVCXPRT *transport); /* made by rpcgen */

#define ANSWER(result, number) return ((result).status = (number), &(result))
enum { PROOF_MAX = 8192, HOLES_MAX = 256 };

static struct bytes record, content, certificate, revocation;
static fim_record decoded;
static fim_statement statement;
static struct stat status_of_content;
static struct tree tree;
static unsigned char tag[HASH_MAX];
static unsigned char *leaves; /* of the content, if it has the size that was signed */

/* The names of the path. An object is told by its depth: 0 is the root, the number of names the file. Its handle is
 * the depth in two bytes; the root has the empty handle too. */
static struct bytes names[FIM_DEPTH_MAX];
static unsigned int file_depth;

/* Objects */

static bool is_handle(const fip_handle *handle, unsigned int *depth)
{
    if (handle->fip_handle_len != 0 && handle->fip_handle_len != 2)
        return false;
    *depth = 0;
    for (u_int i = 0; i < handle->fip_handle_len; i++)
        *depth = *depth << 8 | (unsigned char)handle->fip_handle_val[i];
    return *depth <= file_depth;
}

static fip_handle handle_of(unsigned int depth)
{
    static char bytes[2];

    bytes[0] = depth >> 8;
    bytes[1] = depth;
    return (fip_handle){2, bytes};
}

static fip_attributes attributes_of(unsigned int depth)
{
    fip_attributes attributes = {.type = FIP_DIRECTORY};

    if (depth == file_depth) {
        attributes.type = FIP_FILE;
        attributes.has_record = TRUE;
        attributes.executable = (status_of_content.st_mode & S_IXUSR) != 0;
        attributes.size = content.size;
        attributes.mtime.seconds = status_of_content.st_mtim.tv_sec;
        attributes.mtime.nseconds = status_of_content.st_mtim.tv_nsec;
    }
    return attributes;
}

/* The next name of a path; false at its end. */
static bool next_name(struct bytes *path, struct bytes *name)
{
    char *slash;

    if (path->data == NULL)
        return false;
    slash = memchr(path->data, '/', path->size);
    name->data = path->data;
    name->size = slash == NULL ? path->size : (size_t)(slash - path->data);
    path->size -= slash == NULL ? name->size : name->size + 1;
    path->data = slash == NULL ? NULL : slash + 1;
    return true;
}

static struct bytes path_of(const fim_path *path)
{
    return (struct bytes){path->fim_path_len == 0 ? NULL : path->fim_path_val, path->fim_path_len};
}

static bool is_path(struct bytes path)
{
    struct bytes name;

    for (int count = 0; next_name(&path, &name); count++) {
        if (count == FIM_DEPTH_MAX || name.size < 1 || name.size > 255 || memchr(name.data, 0, name.size) != NULL)
            return false;
        if (name.data[0] == '.' && (name.size == 1 || (name.size == 2 && name.data[1] == '.')))
            return false;
    }
    return true;
}

static fip_status resolve(const fip_handle *base, const fim_path *given, unsigned int *depth)
{
    struct bytes path = path_of(given), name;

    if (!is_path(path))
        return FIP_INVALID;
    if (!is_handle(base, depth))
        return FIP_BAD_HANDLE;
    while (next_name(&path, &name)) {
        if (*depth == file_depth)
            return FIP_NOT_DIRECTORY;
        if (name.size != names[*depth].size || compare(name.data, names[*depth].data, name.size) != 0)
            return FIP_NOT_FOUND;
        ++*depth;
    }
    return FIP_OK;
}

/* Versions */

static bool has_length(unsigned int number, const fim_hash *value)
{
    const struct hash *hash = hash_of(number);

    return hash == NULL || value->fim_hash_len == hash->length;
}

/* The statuses of a call about the version that `named` names, in the order of fip-status-2. `arguments` are the
 * rules that need no look at a file, `range` those that do. */
static fip_status check(const fip_handle *handle, const fim_tag *named, bool arguments, bool range)
{
    unsigned int depth;

    if (!arguments || !has_length(named->hash, &named->digest))
        return FIP_INVALID;
    if (!is_handle(handle, &depth))
        return FIP_BAD_HANDLE;
    if (depth != file_depth)
        return FIP_IS_DIRECTORY;
    if (named->hash != tree.hash->number || compare(named->digest.fim_hash_val, tag, tree.hash->length) != 0)
        return FIP_CHANGED;
    if (!range)
        return FIP_INVALID;
    return leaves == NULL ? FIP_CHANGED : FIP_OK; /* no new record is expected, so never UPDATING */
}

struct hashes {
    char *data;
    size_t size;
};

static void no_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    (void)context, (void)level, (void)index, (void)out;
    abort(); /* all leaves are there */
}

static void put_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct hashes *hashes = context;
    uint64_t a = index << level, b = (index + 1) << level;

    (void)out;
    b = b < tree.n ? b : tree.n;
    fold(&tree, a, b, level, index, leaves + a * tree.hash->length, no_hash, NULL,
         (unsigned char *)hashes->data + hashes->size);
    hashes->size += tree.hash->length;
}

static fip_proof proof_of(uint64_t a, uint64_t b, unsigned int level)
{
    static char data[PROOF_MAX];
    struct hashes hashes = {data, 0};

    prove(&tree, a, b, level, a >> level, put_hash, &hashes);
    return (fip_proof){hashes.size, data};
}

static bool fits(uint64_t first, uint64_t count, uint64_t whole)
{
    return count <= whole && first <= whole - count;
}

/* Procedures, in the order of their numbers */

void *fipproc_null_1_svc(void *arguments, struct svc_req *request)
{
    (void)arguments, (void)request;
    return &file_depth; /* anything but NULL: there is a reply, and nothing in it */
}

fip_limits_result *fipproc_limits_1_svc(void *arguments, struct svc_req *request)
{
    static fip_limits_result result;
    static u_int hash, type = FIM_TREE_RFC9162;
    fip_limits_ok *ok = &result.fip_limits_result_u.ok;

    (void)arguments, (void)request;
    hash = tree.hash->number;
    *ok = (fip_limits_ok){FIP_CAP_CORE | FIP_CAP_DATA, FIP_DATA_MAX, FIP_TREE_MAX, FIP_CALLS_MIN, 0,
                          {1, &hash}, {1, &type}};
    ANSWER(result, FIP_OK);
}

fip_resolve_result *fipproc_resolve_1_svc(fip_resolve_args *arguments, struct svc_req *request)
{
    static fip_resolve_result result;
    unsigned int depth;
    fip_status status = resolve(&arguments->base, &arguments->path, &depth);

    (void)request;
    if (status == FIP_OK) {
        result.fip_resolve_result_u.ok.object = handle_of(depth);
        result.fip_resolve_result_u.ok.attributes = attributes_of(depth);
    }
    ANSWER(result, status);
}

fip_record_result *fipproc_record_1_svc(fip_record_args *arguments, struct svc_req *request)
{
    static fip_record_result result;
    fip_record_ok *ok = &result.fip_record_result_u.ok;
    unsigned char current[HASH_MAX];
    unsigned int depth;

    (void)request;
    if ((arguments->known.known_len != 0 && arguments->known.known_len != 32) || arguments->wait > FIP_WAIT_MAX)
        ANSWER(result, FIP_INVALID);
    if (!is_handle(&arguments->object, &depth))
        ANSWER(result, FIP_BAD_HANDLE);
    if (depth != file_depth)
        ANSWER(result, FIP_IS_DIRECTORY);
    digest(hash_of(FIM_HASH_SHA256), record.data, record.size, current);
    if (arguments->known.known_len == 32 && compare(arguments->known.known_val, current, 32) == 0)
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
    static char data[FIP_TREE_MAX * HASH_MAX];
    struct hashes hashes = {data, 0};
    fip_status status = check(
        &arguments->object, &arguments->tag, arguments->count >= 1 && arguments->count <= FIP_TREE_MAX,
        arguments->level <= tree.height &&
            fits(arguments->first, arguments->count, ceil_div(tree.n, arguments->level)));

    (void)request;
    if (status == FIP_OK)
        for (uint64_t i = 0; i < arguments->count; i++)
            put_hash(&hashes, arguments->level, arguments->first + i, NULL);
    result.fip_tree_result_u.ok.hashes.hashes_len = hashes.size;
    result.fip_tree_result_u.ok.hashes.hashes_val = data;
    ANSWER(result, status);
}

fip_proof_result *fipproc_proof_1_svc(fip_proof_args *arguments, struct svc_req *request)
{
    static fip_proof_result result;
    uint64_t a = arguments->first, b = a + arguments->count;
    bool under_one_node = arguments->level > 63 || a >> arguments->level == (b - 1) >> arguments->level;
    fip_status status = check(&arguments->object, &arguments->tag, arguments->count >= 1 && under_one_node,
                              arguments->level <= tree.height && fits(a, arguments->count, tree.n));

    (void)request;
    if (status == FIP_OK)
        result.fip_proof_result_u.ok.proof = proof_of(a, b, arguments->level);
    ANSWER(result, status);
}

fip_fetch_result *fipproc_fetch_1_svc(fip_fetch_args *arguments, struct svc_req *request)
{
    static fip_fetch_result result;
    fip_fetch_ok *ok = &result.fip_fetch_result_u.ok;
    uint64_t units = tree.size <= arguments->most ? tree.n : arguments->most >> tree.unit_log2;
    unsigned int depth;
    fip_status status = FIP_INVALID;

    (void)request;
    if (arguments->most <= FIP_FETCH_MAX)
        status = resolve(&arguments->base, &arguments->path, &depth);
    if (status == FIP_OK && depth != file_depth)
        status = FIP_IS_DIRECTORY;
    if (status == FIP_OK && leaves == NULL)
        status = FIP_CHANGED;
    if (status == FIP_OK) {
        ok->object = handle_of(depth);
        ok->record.record_len = record.size;
        ok->record.record_val = record.data;
        ok->proof = units == 0 ? (fip_proof){0, NULL} : proof_of(0, units, tree.height);
        ok->data.data_len = bytes_of(&tree, 0, units);
        ok->data.data_val = content.data;
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
    static char packed[FIP_DATA_MAX];
    unsigned int slice_log2 = tree.unit_log2 < 22 ? tree.unit_log2 : 22, k = tree.unit_log2 - slice_log2;
    uint64_t first = arguments->first, end = first + arguments->count, size = 0, a = 0, b = 0;
    bool range = fits(first, arguments->count, ceil_div(tree.size, slice_log2)) && arguments->count >= 1;
    fip_status status;

    (void)request;
    if (range) {
        a = first >> k;
        b = ((end - 1) >> k) + 1;
        size = (end << slice_log2 < tree.size ? end << slice_log2 : tree.size) - (first << slice_log2);
        range = size <= FIP_DATA_MAX;
    }
    if (range && arguments->level != NULL)
        range = *arguments->level <= tree.height && a >> *arguments->level == (b - 1) >> *arguments->level;
    status = check(&arguments->object, &arguments->tag, arguments->count >= 1, range);
    if (status == FIP_OK) {
        fip_read_ok *ok = &result.fip_read_result_u.ok;
        ok->proof = arguments->level == NULL ? (fip_proof){0, NULL} : proof_of(a, b, *arguments->level);
        pack(content.data + (first << slice_log2), size, (size_t)1 << slice_log2, ok, packed);
    }
    ANSWER(result, status);
}

static bool is_above(const struct bytes *name, const char *after, size_t size)
{
    int order = compare(name->data, after, name->size < size ? name->size : size);

    return order > 0 || (order == 0 && name->size > size);
}

fip_readdir_result *fipproc_readdir_1_svc(fip_readdir_args *arguments, struct svc_req *request)
{
    static fip_readdir_result result;
    static fip_entry entry;
    fip_readdir_ok *ok = &result.fip_readdir_result_u.ok;
    unsigned int depth;

    (void)request;
    if (arguments->count < 1 || arguments->count > FIP_ENTRIES_MAX)
        ANSWER(result, FIP_INVALID);
    if (!is_handle(&arguments->directory, &depth))
        ANSWER(result, FIP_BAD_HANDLE);
    if (depth == file_depth)
        ANSWER(result, FIP_NOT_DIRECTORY);
    entry.name = (fim_name){names[depth].size, names[depth].data};
    entry.object = handle_of(depth + 1);
    entry.attributes = attributes_of(depth + 1);
    ok->entries.entries_len = is_above(&names[depth], arguments->after.after_val, arguments->after.after_len);
    ok->entries.entries_val = &entry;
    ok->eof = TRUE;
    ANSWER(result, FIP_OK);
}

fip_getattr_result *fipproc_getattr_1_svc(fip_getattr_args *arguments, struct svc_req *request)
{
    static fip_getattr_result result;
    unsigned int depth;

    (void)request;
    if (!is_handle(&arguments->object, &depth))
        ANSWER(result, FIP_BAD_HANDLE);
    result.fip_getattr_result_u.ok = attributes_of(depth);
    ANSWER(result, FIP_OK);
}

fip_revocation_result *fipproc_revocation_1_svc(fip_revocation_args *arguments, struct svc_req *request)
{
    static fip_revocation_result result;
    fip_revocation_ok *ok = &result.fip_revocation_result_u.ok;
    unsigned char current[HASH_MAX];
    unsigned int depth;

    (void)request;
    if (arguments->known.known_len != 0 && arguments->known.known_len != 32)
        ANSWER(result, FIP_INVALID);
    if (!is_handle(&arguments->object, &depth))
        ANSWER(result, FIP_BAD_HANDLE);
    if (revocation.data == NULL)
        ANSWER(result, FIP_UNSIGNED);
    digest(hash_of(FIM_HASH_SHA256), revocation.data, revocation.size, current);
    if (arguments->known.known_len == 32 && compare(arguments->known.known_val, current, 32) == 0)
        ANSWER(result, FIP_UNCHANGED);
    ok->record.record_len = revocation.size;
    ok->record.record_val = revocation.data;
    ANSWER(result, FIP_OK);
}

fip_plain_result *fipproc_plain_1_svc(fip_plain_args *arguments, struct svc_req *request)
{
    static fip_plain_result result;
    fip_plain_ok *ok = &result.fip_plain_result_u.ok;
    uint64_t left;
    unsigned int depth;

    (void)request;
    if (arguments->count < 1 || arguments->count > FIP_DATA_MAX)
        ANSWER(result, FIP_INVALID);
    if (!is_handle(&arguments->object, &depth))
        ANSWER(result, FIP_BAD_HANDLE);
    if (depth != file_depth)
        ANSWER(result, FIP_IS_DIRECTORY);
    left = arguments->offset < content.size ? content.size - arguments->offset : 0;
    ok->size = content.size;
    ok->eof = arguments->count >= left;
    ok->data.data_len = ok->eof ? left : arguments->count;
    ok->data.data_val = left > 0 ? content.data + arguments->offset : content.data;
    ANSWER(result, FIP_OK);
}

/* There is no volume (fip-entries-4). */

fip_entries_result *fipproc_entries_1_svc(fip_entries_args *arguments, struct svc_req *request)
{
    static fip_entries_result result;

    (void)arguments, (void)request;
    ANSWER(result, FIP_NOT_SUPPORTED);
}

fip_bulk_result *fipproc_bulk_1_svc(fip_bulk_args *arguments, struct svc_req *request)
{
    static fip_bulk_result result;

    (void)arguments, (void)request;
    ANSWER(result, FIP_NOT_SUPPORTED);
}

/* What is served */

static void load(void)
{
    const fim_file *file = &statement.claim.fim_claim_u.file;
    const fim_tree *shape = &file->content.tree;
    const struct hash *hash;
    struct bytes encoded, path;

    if (!decode_canonical((xdrproc_t)xdr_fim_record, &record, &decoded, sizeof decoded)) {
        fprintf(stderr, "no record\n");
        exit(4);
    }
    encoded = (struct bytes){decoded.statement.statement_val, decoded.statement.statement_len};
    if (!decode_canonical((xdrproc_t)xdr_fim_statement, &encoded, &statement, sizeof statement) ||
        statement.claim.kind != FIM_FILE || !is_path(path_of(&file->path)) || shape->unit_log2 < FIM_UNIT_LOG2_MIN ||
        shape->unit_log2 > FIM_UNIT_LOG2_MAX || shape->type != FIM_TREE_RFC9162 ||
        (hash = hash_of(statement.hash)) == NULL || hash->name == NULL) {
        fprintf(stderr, "no statement that can be served\n");
        exit(4);
    }
    make_tree(&tree, hash, shape->unit_log2, shape->size);
    digest(hash, encoded.data, encoded.size, tag);
    for (path = path_of(&file->path); next_name(&path, &names[file_depth]);)
        file_depth++;
    if (content.size != tree.size)
        return;
    leaves = allocated(tree.n * hash->length);
    for (uint64_t j = 0; j < tree.n; j++)
        leaf(hash, content.data + bytes_of(&tree, 0, j), bytes_of(&tree, j, j + 1), leaves + j * hash->length);
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

int main(int count, char **words)
{
    int listener;

    if (count < 4 || count > 5) {
        fprintf(stderr, "usage: serve RECORD DATA CERTIFICATE [REVOCATION]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    record = read_file(words[1]);
    content = read_file(words[2]);
    certificate = read_certificate(words[3]);
    if (count == 5)
        revocation = read_file(words[4]);
    if (stat(words[2], &status_of_content) != 0)
        return 4;
    load();
    listener = listen_at_a_free_port();
    for (;;) {
        int connections = svc_max_pollfd;
        struct pollfd *fds = allocated((connections + 2) * sizeof *fds);
        copy(fds, svc_pollfd, connections * sizeof *fds);
        fds[connections] = (struct pollfd){.fd = listener, .events = POLLIN};
        fds[connections + 1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(fds, connections + 2, -1);
        if (fds[connections + 1].revents != 0)
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
