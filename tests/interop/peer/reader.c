/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "calls.h"
#include "paths.h"
#include "ranges.h"
#include "session.h"

#ifndef TREE_NODES
#define TREE_NODES 65536 /* of the level that is fetched ahead of time, or kept of a tree made here */
#endif
enum {
    CHUNK = FIP_DATA_MIN, /* bytes that are read at once, where a unit is no larger: granted without asking */
    KNOWN = 1024,         /* nodes that are remembered */
    PROOF_MAX = 8192,     /* the bound of fip_proof, which has no name there */
};

/* What a read ended with. */
enum outcome { DONE, FAILED_UNIT, OTHER_VERSION }; /* a unit that fails; the server said CHANGED or UPDATING */

static enum presentation presentation;
static deliver_function to; /* whom bytes are delivered to */
static bool pinned;         /* a byte has been delivered */
static int heads;           /* that were followed until a file is there or shown not to be */

/* The version that is read. */
static fip_handle handle;
static struct bytes record;
static struct verified version;
static uint64_t generation; /* of the version, or of the head that it is judged under */

/* Verified nodes of the version: all of one level, and some others. A place is found by level and index alone,
 * and taken over by whoever comes next, so memory is bounded whatever the size of the file. */
static unsigned char *table; /* NULL: there is none */
static unsigned int table_level;
static struct known {
    bool is_set;
    unsigned int level;
    uint64_t index;
    unsigned char value[HASH_MAX];
} known[KNOWN];

/* Opening */

static uint64_t delivered; /* units of the version */
static bool asked_again;   /* whether V3 was reached for what comes after them */

static void forget_version(void)
{
    free_verified(&version);
    free(table);
    table = NULL;
    memset(known, 0, sizeof known);
    delivered = 0;
    asked_again = false;
}

/* A record as that of a file, or of a member: then under a newer head, if it is of another one (fip-vol-3). */
static const char *judge(const struct bytes *received, struct verified *out, uint64_t *found)
{
    const char *verdict;

    if (!has_head) {
        verdict = verify_record(received, &expected, out);
        *found = verdict == NULL ? out->statement.claim.fim_claim_u.file.when.generation : 0;
        return verdict;
    }
    verdict = verify_member(received, &head, &expected, out);
    if (verdict != NULL && strcmp(verdict, "other-head") == 0) {
        verdict = ask_head();
        if (verdict != NULL && (strcmp(verdict, "rollback") == 0 || strcmp(verdict, "equivocation") == 0))
            end_with(verdict);
        if (verdict == NULL)
            verdict = verify_member(received, &head, &expected, out);
    }
    *found = head_generation();
    return verdict;
}

/* The server says that there is no such file, or no record of it: in a volume it has to show it (fip-vol-2). Returns if
 * it has a newer head now, under which it may be otherwise. */
static void end_without_file(const char *otherwise)
{
    struct bytes parent, name;
    fip_entries_result result;
    const fim_entry *found;
    const char *verdict;
    fip_status status;

    if (!has_head)
        otherwise == NULL ? trouble_with_peer("the server has no such file") : end_with(otherwise);
    split_path(&expected.path, &parent, &name);
    fip_entries_args arguments = {
        {head.statement.hash, {hash_of(head.statement.hash)->length, (char *)head.tag}},
        {parent.size, parent.data},
        {name.size, name.data},
        2,
    };
    status = CALL(FIPPROC_ENTRIES, entries, &arguments, &result);
    if (status == FIP_CHANGED && ++heads < HEADS_MAX) {
        uint64_t before = head_generation();
        begin_with_head();
        if (head_generation() > before)
            return;
        trouble_with_peer("malformed-reply: another head than the one that the server gives"); /* fip-entries-3 */
    }
    if (status != FIP_OK)
        trouble_with_peer("the server does not show that there is no such file");
    verdict = find_entry(&head, &result.fip_entries_result_u.ok.range, &parent, &name, &found);
    if (verdict != NULL && strcmp(verdict, NOT_SHOWN) == 0)
        trouble_with_peer("malformed-reply: a range that does not show what it was asked for");
    if (verdict != NULL)
        end_with(verdict);
    if (found == NULL)
        end_with("absent");
    if (found->node.type == FIM_ENTRY_FILE)
        end_with("hidden");
    fprintf(stderr, "not a file, but a %s\n", found->node.type == FIM_ENTRY_LINK ? "link" : "directory");
    exit(4);
}

static void keep_record(const struct bytes *received)
{
    struct bytes kept = {allocated(received->size), received->size};

    copy(kept.data, received->data, received->size);
    free(record.data);
    record = kept;
}

/* Verify a record that was received, and read by it from now on. */
static void take_record(const char *data, size_t size)
{
    const char *verdict;

    keep_record(&(struct bytes){(char *)data, size});
    forget_version();
    verdict = judge(&record, &version, &generation);
    if (verdict != NULL)
        end_with(verdict);
}

static void take_handle(const fip_handle *received)
{
    free(handle.fip_handle_val);
    handle.fip_handle_val = allocated(received->fip_handle_len);
    handle.fip_handle_len = received->fip_handle_len;
    copy(handle.fip_handle_val, received->fip_handle_val, received->fip_handle_len);
}

static void resolve(void)
{
    fip_resolve_args arguments = {{0, NULL}, {expected.path.size, expected.path.data}};
    fip_resolve_result result;

    while (CALL(FIPPROC_RESOLVE, resolve, &arguments, &result) != FIP_OK) {
        if (pinned)
            end_with("stale");
        end_without_file(NULL);
    }
    take_handle(&result.fip_resolve_result_u.ok.object);
    FREE(resolve, &result);
}

/* A call about the file, whose arguments begin with its handle. After BAD_HANDLE the path is resolved again, once
 * (fip-handle-7). */
static fip_status call_file(unsigned int procedure, xdrproc_t arguments_xdr, void *arguments, xdrproc_t result_xdr,
                            void *result, size_t size)
{
    fip_status status = FIP_BAD_HANDLE;

    for (int tries = 0; tries < 2; tries++) {
        *(fip_handle *)arguments = handle;
        status = call(procedure, arguments_xdr, arguments, result_xdr, result, size);
        if (status == FIP_UNSIGNED && !pinned)
            end_without_file("unsigned");
        else if (status != FIP_BAD_HANDLE)
            break;
        resolve();
    }
    switch (status) {
    case FIP_OK:
    case FIP_UNCHANGED:
    case FIP_CHANGED:
    case FIP_UPDATING:
        return status;
    case FIP_UNSIGNED:
        end_with("stale");
    default:
        fprintf(stderr, "status %d to procedure %u\n", status, procedure);
        trouble_with_peer("the server does not serve the file");
    }
}

#define CALL_FILE(procedure, name, arguments, result)                                                                 \
    call_file(procedure, (xdrproc_t)xdr_fip_##name##_args, arguments, (xdrproc_t)xdr_fip_##name##_result, result,     \
              sizeof *(result))

static void open_file(void)
{
    fip_record_args arguments = {{0, NULL}, {0, NULL}, 0};
    fip_record_result result;

    resolve();
    if (CALL_FILE(FIPPROC_RECORD, record, &arguments, &result) != FIP_OK)
        trouble_with_peer("malformed-reply: no record for a client that has none");
    take_record(result.fip_record_result_u.ok.record.record_val, result.fip_record_result_u.ok.record.record_len);
    FREE(record, &result);
}

/* V1 to V4, for a wait budget of zero. Returns if the reader is to go on after what it has delivered: nothing, if
 * there is a newer version. */
static void settle(enum outcome trouble)
{
    unsigned char digest_of_record[HASH_MAX];
    fip_record_args arguments = {{0, NULL}, {32, (char *)digest_of_record}, 0};
    fip_record_result result;
    fip_status status;

    digest(hash_of(FIM_HASH_SHA256), record.data, record.size, digest_of_record);
    status = CALL_FILE(FIPPROC_RECORD, record, &arguments, &result); /* V1 */
    if (status == FIP_OK) {                                          /* V2 */
        struct bytes received = {result.fip_record_result_u.ok.record.record_val,
                                 result.fip_record_result_u.ok.record.record_len};
        unsigned char digest_of_received[HASH_MAX];
        struct verified other;
        uint64_t other_generation;
        digest(hash_of(FIM_HASH_SHA256), received.data, received.size, digest_of_received);
        if (compare(digest_of_received, digest_of_record, 32) == 0)
            trouble_with_peer("malformed-reply: the record that is known"); /* fip-record-4 */
        if (judge(&received, &other, &other_generation) == NULL) {
            bool newer = other_generation > generation;
            bool same = other.tree.hash == version.tree.hash &&
                        compare(other.tag, version.tag, version.tree.hash->length) == 0;
            if (newer && pinned && !same)
                end_with("stale");
            if (newer && !pinned) {
                free_verified(&other);
                take_record(received.data, received.size);
                FREE(record, &result);
                return;
            }
            if (same) { /* with other signatures, or of a member under a newer head: a pinned reader goes on */
                keep_record(&received);
                free_verified(&version);
                version = other;
                generation = other_generation;
            } else {
                free_verified(&other);
            }
        }
    }
    if (status == FIP_UPDATING) /* V4, with nothing left of the budget */
        end_with("updating");
    if (asked_again) /* V3 */
        end_with(trouble == FAILED_UNIT ? "mismatch" : "stale");
    asked_again = true;
}

/* Nodes */

static fim_tag tag(void)
{
    return (fim_tag){version.tree.hash->number, {version.tree.hash->length, (char *)version.tag}};
}

static struct known *place_of(unsigned int level, uint64_t index)
{
    return &known[(index * 31 + level) % KNOWN];
}

/* The value of a verified node above units [a, b), the lowest there is (fip-client-18), and its level. */
static const unsigned char *anchor(uint64_t a, uint64_t b, unsigned int *level)
{
    const struct tree *tree = &version.tree;

    if (table != NULL) {
        *level = table_level;
        return table + (a >> table_level) * tree->hash->length;
    }
    for (*level = 0; *level < tree->height; ++*level) {
        struct known *place = place_of(*level, a >> *level);
        if (a >> *level == (b - 1) >> *level && place->is_set && place->level == *level &&
            place->index == a >> *level)
            return place->value;
    }
    return (unsigned char *)version.root.fim_hash_val;
}

struct proof {
    const unsigned char *hashes;
    size_t used;
};

static void take_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct proof *proof = context;

    (void)level, (void)index;
    copy(out, proof->hashes + proof->used++ * version.tree.hash->length, version.tree.hash->length);
}

/* After a fold came to the expected value: its hashes may serve as anchors. */
static void remember(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct known *place = place_of(level, index);

    *place = (struct known){.is_set = true, .level = level, .index = index};
    take_hash(context, level, index, place->value);
    (void)out;
}

/* Step 13 for units [a, b), under the node of `level` with the value `value`. The proof has the right length. */
static bool verify_units(uint64_t a, uint64_t b, unsigned int level, const unsigned char *value, const char *data,
                         const char *hashes)
{
    const struct tree *tree = &version.tree;
    unsigned char *leaves = allocated((b - a) * tree->hash->length), found[HASH_MAX];
    struct proof proof = {(const unsigned char *)hashes, 0};
    bool verifies;

    for (uint64_t j = a; j < b; j++)
        leaf(tree->hash, data + bytes_of(tree, a, j), bytes_of(tree, j, j + 1),
             leaves + (j - a) * tree->hash->length);
    fold(tree, a, b, level, a >> level, leaves, take_hash, &proof, found);
    free(leaves);
    verifies = compare(found, value, tree->hash->length) == 0;
    if (verifies && table == NULL) {
        proof.used = 0;
        prove(tree, a, b, level, a >> level, remember, &proof);
    }
    return verifies;
}

/* Reading */

static unsigned int slices_log2(void) /* of a unit */
{
    unsigned int unit_log2 = version.tree.unit_log2;

    return unit_log2 > 22 ? unit_log2 - 22 : 0; /* a slice is at most FIP_DATA_MAX bytes */
}

/* Put the data of a reply for `count` slices, `size` bytes, where it belongs, with its holes as zeros. */
static void unpack(const fip_read_ok *ok, uint64_t count, size_t size, char *out)
{
    size_t slice = (size_t)1 << (version.tree.unit_log2 - slices_log2());
    const char *data = ok->data.data_val;
    size_t left = ok->data.data_len, at = 0;
    uint64_t after = 0; /* the hole before */

    for (u_int i = 0; i < ok->holes.holes_len; i++) {
        const fip_hole *hole = &ok->holes.holes_val[i];
        size_t start = hole->first * slice, end = (hole->first + (uint64_t)hole->count) * slice;
        if (hole->count == 0 || hole->first < after || hole->first + (uint64_t)hole->count > count)
            trouble_with_peer("malformed-reply: holes"); /* fip-hole-1 */
        after = hole->first + (uint64_t)hole->count;
        end = end < size ? end : size;
        if (start - at > left)
            trouble_with_peer("malformed-reply: too little data");
        copy(out + at, data, start - at);
        data += start - at;
        left -= start - at;
        memset(out + start, 0, end - start);
        at = end;
    }
    if (left != size - at)
        trouble_with_peer("malformed-reply: data of the wrong length");
    copy(out + at, data, left);
}

/* Units [a, b), at most CHUNK bytes or one unit, into `data`; with `level` their proof into `hashes`. */
static enum outcome read_units(uint64_t a, uint64_t b, u_int *level, char *data, char *hashes)
{
    const struct tree *tree = &version.tree;
    unsigned int k = slices_log2();
    uint64_t first = a << k;
    uint64_t end = b == tree->n ? ceil_div(tree->size, tree->unit_log2 - k) : b << k;
    size_t size = bytes_of(tree, a, b);

    while (first < end) {
        uint64_t count = k > 0 ? 1 : end - first; /* a slice of a divided unit is all that a call may ask for */
        size_t part = k > 0 && size > FIP_DATA_MAX ? FIP_DATA_MAX : size;
        fip_read_args arguments = {{0, NULL}, tag(), first, count, level};
        fip_read_result result;
        const fip_read_ok *ok = &result.fip_read_result_u.ok;
        if (CALL_FILE(FIPPROC_READ, read, &arguments, &result) != FIP_OK)
            return OTHER_VERSION;
        if (ok->proof.fip_proof_len != (level == NULL ? 0 : proof_length(tree, a, b, *level) * tree->hash->length))
            trouble_with_peer("malformed-reply: proof of the wrong length");
        copy(hashes, ok->proof.fip_proof_val, ok->proof.fip_proof_len);
        unpack(ok, count, part, data);
        FREE(read, &result);
        first += count;
        data += part;
        size -= part;
        level = NULL; /* with one slice of a unit, the proof comes once */
    }
    return DONE;
}

static enum outcome get_proof(uint64_t a, uint64_t b, unsigned int level, char *hashes)
{
    fip_proof_args arguments = {{0, NULL}, tag(), level, a, b - a};
    fip_proof_result result;
    const fip_proof *proof = &result.fip_proof_result_u.ok.proof;

    if (proof_length(&version.tree, a, b, level) == 0)
        return DONE;
    if (CALL_FILE(FIPPROC_PROOF, proof, &arguments, &result) != FIP_OK)
        return OTHER_VERSION;
    if (proof->fip_proof_len != proof_length(&version.tree, a, b, level) * version.tree.hash->length)
        trouble_with_peer("malformed-reply: proof of the wrong length");
    copy(hashes, proof->fip_proof_val, proof->fip_proof_len);
    FREE(proof, &result);
    return DONE;
}

static void deliver(const char *data, size_t size)
{
    pinned = true;
    to(data, size);
}

/* Read, verify and deliver units [a, b). */
static enum outcome read_chunk(uint64_t a, uint64_t b, char *data)
{
    char hashes[PROOF_MAX];
    unsigned int level;
    const unsigned char *value = anchor(a, b, &level);
    bool is_inline = presentation == INLINE;
    enum outcome outcome = read_units(a, b, is_inline ? &level : NULL, data, hashes);
    const char *at = data;

    if (outcome != DONE)
        return outcome;
    for (uint64_t end = b, from = a; from < b; from = end) { /* one piece for each node of a table */
        if (table != NULL && ((from >> level) + 1) << level < b)
            end = ((from >> level) + 1) << level;
        else
            end = b;
        value = anchor(from, end, &level);
        outcome = is_inline ? DONE : get_proof(from, end, level, hashes);
        if (outcome != DONE)
            return outcome;
        if (!verify_units(from, end, level, value, at, hashes))
            return FAILED_UNIT;
        at += bytes_of(&version.tree, from, end);
    }
    deliver(data, bytes_of(&version.tree, a, b));
    delivered = b;
    asked_again = false;
    return DONE;
}

/* The units of a chunk, as a power of two: then a chunk is a node, or lies within one of a table. */
static unsigned int chunk_log2(void)
{
    unsigned int log2 = 0;

    while ((size_t)2 << (log2 + version.tree.unit_log2) <= CHUNK)
        log2++;
    return table != NULL && table_level > 0 && table_level < log2 ? table_level : log2;
}

static enum outcome for_each_chunk(uint64_t from, enum outcome (*read)(uint64_t, uint64_t, char *))
{
    unsigned int log2 = chunk_log2();
    char *data = allocated((size_t)1 << (log2 + version.tree.unit_log2));
    enum outcome outcome = DONE;

    for (uint64_t a = from, b; a < version.tree.n && outcome == DONE; a = b) {
        b = ((a >> log2) + 1) << log2;
        b = b < version.tree.n ? b : version.tree.n;
        outcome = read(a, b, data);
    }
    free(data);
    return outcome;
}

/* The four presentations */

static bool is_root(const unsigned char *value)
{
    return compare(value, version.root.fim_hash_val,
                  version.tree.hash->length) == 0;
}

static void no_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    (void)context, (void)level, (void)index, (void)out;
    abort(); /* all leaves are there */
}

/* Fold `nodes`, all of one level, to the root; if it is the signed one, they are the table. A level is a tree by
 * itself: its nodes are the leaves. */
static bool take_table(unsigned char *nodes, unsigned int level)
{
    struct tree above = version.tree;
    unsigned char found[HASH_MAX];

    above.n = ceil_div(version.tree.n, level);
    above.height = version.tree.height - level;
    fold(&above, 0, above.n, above.height, 0, nodes, no_hash, NULL, found);
    if (!is_root(found)) {
        free(nodes);
        return false;
    }
    table = nodes;
    table_level = level;
    return true;
}

static enum outcome get_level(unsigned int level)
{
    size_t length = version.tree.hash->length;
    uint64_t nodes = ceil_div(version.tree.n, level);
    unsigned char *values = allocated(nodes * length);

    for (uint64_t first = 0, count; first < nodes; first += count) {
        count = nodes - first < FIP_HASHES_MIN ? nodes - first : FIP_HASHES_MIN;
        fip_tree_args arguments = {{0, NULL}, tag(), level, first, count};
        fip_tree_result result;
        if (CALL_FILE(FIPPROC_TREE, tree, &arguments, &result) != FIP_OK) {
            free(values);
            return OTHER_VERSION;
        }
        if (result.fip_tree_result_u.ok.hashes.hashes_len != count * length)
            trouble_with_peer("malformed-reply: hashes of the wrong length");
        copy(values + first * length, result.fip_tree_result_u.ok.hashes.hashes_val, count * length);
        FREE(tree, &result);
    }
    return take_table(values, level) ? DONE : FAILED_UNIT;
}

static unsigned char *built; /* the leaves of a reconstruction */

static enum outcome build_chunk(uint64_t a, uint64_t b, char *data)
{
    enum outcome outcome = read_units(a, b, NULL, data, NULL);

    for (uint64_t j = a; j < b && outcome == DONE; j++)
        leaf(version.tree.hash, data + bytes_of(&version.tree, a, j), bytes_of(&version.tree, j, j + 1),
             built + j * version.tree.hash->length);
    return outcome;
}

/* The whole file is read twice: once for the tree, and then for what is delivered, verified by that tree. */
static enum outcome reconstruct(void)
{
    enum outcome outcome;

    if (version.tree.n > TREE_NODES) {
        fprintf(stderr, "too large to reconstruct\n");
        exit(4);
    }
    built = allocated(version.tree.n * version.tree.hash->length);
    outcome = for_each_chunk(0, build_chunk);
    if (outcome == DONE)
        return take_table(built, 0) ? DONE : FAILED_UNIT;
    free(built);
    return outcome;
}

static enum outcome read_all(void)
{
    unsigned char empty[HASH_MAX];
    enum outcome outcome = DONE;

    if (version.tree.n == 0) { /* fim-proof-8 */
        digest(version.tree.hash, "", 0, empty);
        return is_root(empty) ? DONE : FAILED_UNIT;
    }
    if (table != NULL) {
        /* it has verified before */
    } else if (presentation == AHEAD) {
        unsigned int level = 0;
        while (ceil_div(version.tree.n, level) > TREE_NODES)
            level++;
        outcome = get_level(level);
    } else if (presentation == RECONSTRUCT) {
        outcome = reconstruct();
    }
    return outcome == DONE ? for_each_chunk(delivered, read_chunk) : outcome;
}

/* Open the file and take its first units along, in one call. False: open it in another way. */
static bool fetch(enum outcome *outcome)
{
    fip_fetch_args arguments = {{0, NULL}, {expected.path.size, expected.path.data}, FIP_FETCH_MAX};
    fip_fetch_result result;
    const fip_fetch_ok *ok = &result.fip_fetch_result_u.ok;
    const struct tree *tree = &version.tree;
    fip_status status = CALL(FIPPROC_FETCH, fetch, &arguments, &result);
    uint64_t units;
    size_t proof = 0;

    if (status == FIP_UNSIGNED || status == FIP_NOT_FOUND || status == FIP_NOT_DIRECTORY ||
        status == FIP_IS_DIRECTORY) {
        end_without_file(status == FIP_UNSIGNED ? "unsigned" : NULL);
        return false;
    }
    if (status == FIP_CHANGED || status == FIP_UPDATING)
        return false;
    if (status != FIP_OK)
        trouble_with_peer("the server does not serve the file");
    take_handle(&ok->object);
    take_record(ok->record.record_val, ok->record.record_len); /* before anything else (fip-fetch-6) */
    units = FIP_FETCH_MAX >> tree->unit_log2;
    if (tree->size <= FIP_FETCH_MAX)
        units = tree->n;
    if (units > 0)
        proof = proof_length(tree, 0, units, tree->height) * tree->hash->length;
    if (ok->data.data_len != bytes_of(tree, 0, units) || ok->proof.fip_proof_len != proof)
        trouble_with_peer("malformed-reply: data or proof of the wrong length"); /* fip-fetch-7 */
    *outcome = DONE;
    if (units > 0) {
        unsigned int level;
        const unsigned char *value = anchor(0, tree->n, &level);
        if (verify_units(0, units, level, value, ok->data.data_val, ok->proof.fip_proof_val)) {
            deliver(ok->data.data_val, ok->data.data_len);
            delivered = units;
        } else {
            *outcome = FAILED_UNIT;
        }
    }
    FREE(fetch, &result);
    return true;
}

/* What the server has, unverified: only ever where the user said so (fip-plain-8). */
void read_plain(deliver_function deliver_to)
{
    fip_plain_args arguments = {{0, NULL}, 0, CHUNK};
    bool_t eof = FALSE;

    to = deliver_to;
    resolve();
    while (!eof) {
        fip_plain_result result;
        const fip_plain_ok *ok = &result.fip_plain_result_u.ok;
        uint64_t end;
        CALL_FILE(FIPPROC_PLAIN, plain, &arguments, &result);
        end = arguments.offset + ok->data.data_len;
        if (ok->size > INT64_MAX || ok->data.data_len > arguments.count || ok->eof != (end >= ok->size) ||
            (ok->data.data_len > 0 ? end > ok->size : !ok->eof))
            trouble_with_peer("malformed-reply: data that does not fit the call"); /* fip-plain-7 */
        deliver(ok->data.data_val, ok->data.data_len);
        arguments.offset = end;
        eof = ok->eof;
        FREE(plain, &result);
    }
}

void read_verified(enum presentation wanted, deliver_function deliver_to)
{
    enum outcome outcome = DONE;

    forget_version();
    presentation = wanted;
    to = deliver_to;
    pinned = false;
    heads = 0;
    if (presentation != INLINE || !fetch(&outcome))
        open_file();
    while (outcome != DONE || (outcome = read_all()) != DONE) {
        settle(outcome);
        outcome = DONE;
    }
}
