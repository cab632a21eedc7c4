/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Verifies whatever it is given, for tests that give it what is wrong.
 *
 * usage: judge VOLUME PATH CERTIFICATES NOW HEAD
 *
 * HEAD is the record of a head that verifies. On standard input, as often as wanted: a letter, a length of 4 bytes,
 * big-endian, and so many bytes. The letter says as what they are judged: r a record of the file at PATH, v a
 * revocation, h a head, m the record of a member under HEAD, e a fim_exported, g a fim_range under HEAD, in which PATH is
 * looked for, b a certificate that is pinned for HEAD. On standard output a line for each: the verdict, or verified. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "arguments.h"
#include "paths.h"
#include "ranges.h"
#include "verify.h"

static struct expected expected;
static struct bytes head_record;
static struct verified head;

static const char *judge_range(const struct bytes *data)
{
    struct bytes parent, name;
    const fim_entry *found;
    const char *verdict;
    fim_range range;

    if (!decode_canonical((xdrproc_t)xdr_fim_range, data, &range, sizeof range))
        return "malformed";
    split_path(&expected.path, &parent, &name);
    verdict = find_entry(&head, &range, &parent, &name, &found);
    if (verdict == NULL && range.entries.entries_len > 0)
        begins_at(&range, &parent, &name);
    if (verdict == NULL && found == NULL)
        verdict = "absent";
    xdr_free((xdrproc_t)xdr_fim_range, (char *)&range);
    return verdict;
}

static const char *judge(int as, const struct bytes *data)
{
    struct verified found = {0};
    struct revoked revoked = {0};
    struct marks marks = {0};
    struct expected fresh = expected;
    const char *verdict;

    fresh.revoked = &revoked;
    fresh.marks = &marks;
    switch (as) {
    case 'r':
        verdict = verify_record(data, &fresh, &found);
        break;
    case 'v':
        return verify_revocation(data, &fresh);
    case 'h':
        verdict = verify_head(data, &fresh, &found);
        break;
    case 'm':
        verdict = verify_member(data, &head, &fresh, &found);
        break;
    case 'e':
        verdict = verify_exported(data, &fresh, &found);
        break;
    case 'g':
        return judge_range(data);
    case 'b':
        memset(fresh.certificates, 0, sizeof fresh.certificates);
        fresh.certificates[0] = *data;
        verdict = verify_head(&head_record, &fresh, &found);
        break;
    default:
        exit(2);
    }
    if (verdict == NULL)
        free_verified(&found);
    return verdict;
}

int main(int count, char **words)
{
    const char *verdict;
    uint32_t size;
    int as;

    if (count != 6 || !parse_volume(words[1], expected.volume)) {
        fprintf(stderr, "usage: judge VOLUME PATH CERTIFICATES NOW HEAD\n");
        return 2;
    }
    expected.path = (struct bytes){words[2], strlen(words[2])};
    read_certificates(words[3], expected.certificates, PINS_MAX);
    expected.now = strtoll(words[4], NULL, 10);
    head_record = read_file(words[5]);
    verdict = verify_head(&head_record, &expected, &head);
    if (verdict != NULL) {
        fprintf(stderr, "%s\n", verdict);
        return 4;
    }
    while ((as = getchar()) != EOF) {
        struct bytes data;
        if (fread(&size, sizeof size, 1, stdin) != 1)
            return 4;
        data.size = ntohl(size);
        data.data = malloc(data.size == 0 ? 1 : data.size); /* no byte more, so that a sanitizer sees who reads on */
        if (data.data == NULL || fread(data.data, 1, data.size, stdin) != data.size)
            return 4;
        verdict = judge(as, &data);
        printf("%s\n", verdict == NULL ? "verified" : verdict);
        fflush(stdout);
        free(data.data);
    }
    return 0;
}
