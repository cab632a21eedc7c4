/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE /* asprintf */
#include "marks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static _Noreturn void trouble(const char *file, const char *what)
{
    fprintf(stderr, "%s: %s\n", file, what == NULL ? strerror(errno) : what);
    exit(4);
}

void mark_anchor(const struct bytes *certificate, unsigned char anchor[ANCHOR])
{
    digest(hash_of(FIM_HASH_SHA256), certificate->data, certificate->size, anchor);
}

/* The file */

static bool parse_hex(const char *text, unsigned char *out, size_t room, size_t *size)
{
    int used;

    for (*size = 0; text[2 * *size] != 0; ++*size) {
        used = 0;
        if (*size == room || sscanf(text + 2 * *size, "%2hhx%n", &out[*size], &used) != 1 || used != 2)
            return false;
    }
    return true;
}

static bool parse_bytes(const char *text, struct bytes *out)
{
    out->data = malloc(strlen(text) + 1);
    if (out->data == NULL)
        abort();
    out->size = 0;
    return strcmp(text, "-") == 0 || parse_hex(text, (unsigned char *)out->data, strlen(text), &out->size);
}

static bool parse_mark(char *line, struct mark *out)
{
    char *words[8], *end, *rest = line;
    size_t size;

    for (int i = 0; i < 8; i++)
        if ((words[i] = strsep(&rest, " ")) == NULL || *words[i] == 0)
            return false;
    memset(out, 0, sizeof *out);
    if (rest != NULL || !parse_hex(words[0], out->anchor, ANCHOR, &size) || size != ANCHOR ||
        !parse_hex(words[1], out->volume, sizeof out->volume, &size) || size != sizeof out->volume ||
        !parse_bytes(words[3], &out->path) || !parse_bytes(words[4], &out->key))
        return false;
    out->kind = strtoul(words[2], &end, 10);
    if (*end != 0)
        return false;
    errno = 0;
    out->generation = strtoull(words[5], &end, 10);
    if (*end != 0 || errno != 0)
        return false;
    out->hash = strtoul(words[6], &end, 10);
    return *end == 0 && hash_of(out->hash) != NULL && parse_hex(words[7], out->tag, HASH_MAX, &size) &&
           size == hash_of(out->hash)->length;
}

static struct mark *added(struct marks *marks)
{
    marks->list = realloc(marks->list, (marks->count + 1) * sizeof *marks->list);
    if (marks->list == NULL)
        abort();
    return &marks->list[marks->count++];
}

/* All that the file has, in the place of what was known. A file that is not there has none yet. */
static void read_all(struct marks *marks)
{
    FILE *file = fopen(marks->file, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;

    if (file == NULL && errno != ENOENT)
        trouble(marks->file, NULL);
    for (size_t i = 0; i < marks->count; i++) {
        free(marks->list[i].path.data);
        free(marks->list[i].key.data);
    }
    marks->count = 0;
    while (file != NULL && (length = getline(&line, &room, file)) > 0) {
        if (line[length - 1] != '\n' || strlen(line) != (size_t)length)
            trouble(marks->file, "damaged");
        line[length - 1] = 0;
        if (!parse_mark(line, added(marks)))
            trouble(marks->file, "damaged");
    }
    if (file != NULL && (ferror(file) || fclose(file) != 0))
        trouble(marks->file, NULL);
    free(line);
}

static void print_hex(FILE *file, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        fprintf(file, "%02x", ((const unsigned char *)data)[i]);
    if (size == 0)
        putc('-', file);
    putc(' ', file);
}

static void print_mark(FILE *file, const struct mark *mark)
{
    print_hex(file, mark->anchor, ANCHOR);
    print_hex(file, mark->volume, sizeof mark->volume);
    fprintf(file, "%u ", mark->kind);
    print_hex(file, mark->path.data, mark->path.size);
    print_hex(file, mark->key.data, mark->key.size);
    fprintf(file, "%" PRIu64 " %u ", mark->generation, mark->hash);
    for (unsigned int i = 0; i < hash_of(mark->hash)->length; i++)
        fprintf(file, "%02x", mark->tag[i]);
    putc('\n', file);
}

/* Another file in the place of the one that there is: whatever happens, one of the two is there, and whole. */
static void write_all(const struct marks *marks)
{
    char *name, *above = strdup(marks->file);
    FILE *file;
    int directory;

    if (above == NULL || asprintf(&name, "%s.new", marks->file) < 0)
        abort();
    file = fopen(name, "w");
    if (file == NULL)
        trouble(name, NULL);
    for (size_t i = 0; i < marks->count; i++)
        print_mark(file, &marks->list[i]);
    if (fflush(file) != 0 || fsync(fileno(file)) != 0 || fclose(file) != 0 || rename(name, marks->file) != 0)
        trouble(name, NULL);
    directory = open(dirname(above), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0 || fsync(directory) != 0)
        trouble(marks->file, NULL);
    close(directory);
    free(name);
    free(above);
}

/* One program at a time, until the answer is closed. */
static int lock(const struct marks *marks)
{
    char *name;
    int fd;

    if (asprintf(&name, "%s.lock", marks->file) < 0)
        abort();
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        trouble(name, NULL);
    free(name);
    return fd;
}

/* Comparing and raising */

static bool counts(const struct mark *mark, const struct anchors *anchors, const unsigned char volume[16],
                   unsigned int kind, const struct bytes *path, const struct items *revoked)
{
    if (mark->kind != kind || compare(mark->volume, volume, sizeof mark->volume) != 0 ||
        mark->path.size != path->size || compare(mark->path.data, path->data, path->size) != 0 ||
        (revoked != NULL && is_key_revoked(revoked, &mark->key)))
        return false;
    for (int i = 0; i < anchors->count; i++)
        if (compare(mark->anchor, anchors->values[i], ANCHOR) == 0)
            return true;
    return false;
}

static const char *compare_known(const struct marks *marks, const struct anchors *anchors, const struct mark *version,
                                 const struct items *revoked)
{
    const struct bytes none = {NULL, 0};
    const char *verdict = NULL;

    for (size_t i = 0; i < marks->count && version->kind == FIM_FILE; i++)
        if (counts(&marks->list[i], anchors, version->volume, FIM_VOLUME, &none, revoked))
            return "wrong-kind"; /* fim-head-2 */
    for (size_t i = 0; i < marks->count; i++) {
        const struct mark *mark = &marks->list[i];
        if (!counts(mark, anchors, version->volume, version->kind, &version->path, revoked))
            continue;
        if (version->generation < mark->generation)
            return "rollback";
        if (version->generation == mark->generation &&
            (version->hash != mark->hash || compare(version->tag, mark->tag, hash_of(mark->hash)->length) != 0))
            verdict = "equivocation";
    }
    return verdict;
}

const char *compare_marks(struct marks *marks, const struct anchors *anchors, const struct mark *version,
                          const struct items *revoked)
{
    if (marks->file != NULL)
        read_all(marks);
    return compare_known(marks, anchors, version, revoked);
}

bool is_head_marked(struct marks *marks, const struct anchors *anchors, const unsigned char volume[16],
                    const struct items *revoked)
{
    const struct bytes none = {NULL, 0};

    if (marks->file != NULL)
        read_all(marks);
    for (size_t i = 0; i < marks->count; i++)
        if (counts(&marks->list[i], anchors, volume, FIM_VOLUME, &none, revoked))
            return true;
    return false;
}

static struct bytes copied(const struct bytes *bytes)
{
    struct bytes other = {malloc(bytes->size + 1), bytes->size};

    if (other.data == NULL)
        abort();
    copy(other.data, bytes->data, bytes->size);
    return other;
}

static bool raise_mark(struct marks *marks, const struct mark *version)
{
    for (size_t i = 0; i < marks->count; i++) {
        struct mark *mark = &marks->list[i];
        if (compare(mark->anchor, version->anchor, ANCHOR) != 0 || mark->kind != version->kind ||
            compare(mark->volume, version->volume, sizeof mark->volume) != 0 || mark->path.size != version->path.size ||
            compare(mark->path.data, version->path.data, mark->path.size) != 0 || mark->key.size != version->key.size ||
            compare(mark->key.data, version->key.data, mark->key.size) != 0)
            continue;
        if (mark->generation >= version->generation)
            return false;
        mark->generation = version->generation;
        mark->hash = version->hash;
        memcpy(mark->tag, version->tag, sizeof mark->tag);
        return true;
    }
    struct mark *mark = added(marks);
    *mark = *version;
    mark->path = copied(&version->path);
    mark->key = copied(&version->key);
    return true;
}

const char *raise_marks(struct marks *marks, const struct anchors *anchors, const struct mark *versions, size_t count,
                        const struct items *revoked)
{
    int held = marks->file == NULL ? -1 : lock(marks);
    const char *verdict = compare_marks(marks, anchors, &versions[0], revoked);
    bool raised = false;

    for (size_t i = 0; i < count && verdict == NULL; i++)
        raised = raise_mark(marks, &versions[i]) || raised;
    if (raised && held >= 0)
        write_all(marks);
    if (held >= 0)
        close(held);
    return verdict;
}
