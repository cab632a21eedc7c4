/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Verifies a file that lies here against its record.
 *
 * usage: check [-m MARKS] RECORD CONTENT VOLUME PATH CERTIFICATES NOW [REVOCATION ...]
 *
 * RECORD may be a fim_exported, too, and then CONTENT may be "-": its content is not looked at.
 * RECORD, CONTENT and REVOCATION are files, VOLUME is a volume ID in hexadecimal, CERTIFICATES a file in PEM with up to
 * 8 certificates, each of them pinned, NOW in Unix seconds. Prints the verdicts of the revocations, one after the other,
 * each judged by what those before it revoke, and then that of the file. MARKS is the file in which marks are kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "verify.h"

int main(int count, char **words)
{
    struct expected expected = {0};
    struct revoked revoked = {0};
    struct marks marks = {0};
    struct bytes record, content = {NULL, 0};
    struct verified version;
    const char *verdict;

    if (count > 2 && strcmp(words[1], "-m") == 0) {
        marks.file = words[2];
        expected.marks = &marks;
        count -= 2;
        words += 2;
    }
    if (count < 7 || !parse_volume(words[3], expected.volume)) {
        fprintf(stderr, "usage: check [-m MARKS] RECORD CONTENT VOLUME PATH CERTIFICATES NOW [REVOCATION ...]\n");
        return 2;
    }
    record = read_file(words[1]);
    if (strcmp(words[2], "-") != 0)
        content = read_file(words[2]);
    expected.path = (struct bytes){words[4], strlen(words[4])};
    read_certificates(words[5], expected.certificates, PINS_MAX);
    expected.now = strtoll(words[6], NULL, 10);
    expected.revoked = &revoked;
    for (int i = 7; i < count; i++) {
        struct bytes revocation = read_file(words[i]);
        verdict = verify_revocation(&revocation, &expected);
        printf("%s\n", verdict == NULL ? "verified" : verdict);
    }
    if (record.size >= 8 && memcmp(record.data + 4, "NFSV", 4) == 0) /* fim-export-3 */
        verdict = verify_record(&record, &expected, &version);
    else
        verdict = verify_exported(&record, &expected, &version);
    if (verdict == NULL)
        verdict = content.data == NULL ? NULL : verify_content(&version, &content);
    verdict = verdict == NULL ? "verified" : verdict;
    printf("%s\n", verdict);
    return strcmp(verdict, "verified") != 0;
}
