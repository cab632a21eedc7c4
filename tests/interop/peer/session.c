/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "session.h"

#include <stdio.h>
#include <stdlib.h>

#include "calls.h"

static struct revoked revoked; /* nothing, until the server told; it is not kept for the next time */
static struct marks marks;
struct expected expected = {.revoked = &revoked, .marks = &marks};
struct verified head;
bool has_head;

void end_with(const char *verdict)
{
    fprintf(stderr, "%s\n", verdict);
    exit(1);
}

uint64_t head_generation(void)
{
    return head.statement.claim.fim_claim_u.volume.when.generation;
}

/* What was accepted is not replaced by what is not strictly newer, whether or not a mark counts (fim-head-4). */
static const char *compare_head(const struct verified *found)
{
    uint64_t generation = found->statement.claim.fim_claim_u.volume.when.generation;

    if (!has_head || generation > head_generation())
        return NULL;
    if (generation < head_generation())
        return "rollback";
    return found->statement.hash == head.statement.hash &&
                   compare(found->tag, head.tag, hash_of(head.statement.hash)->length) == 0
               ? NULL
               : "equivocation";
}

const char *ask_head(void)
{
    fip_record_args arguments = {{0, NULL}, {0, NULL}, 0};
    fip_record_result result;
    const fip_record_ok *ok = &result.fip_record_result_u.ok;
    struct verified found;
    const char *verdict;

    switch (CALL(FIPPROC_RECORD, record, &arguments, &result)) {
    case FIP_OK:
        break;
    case FIP_UNSIGNED:
    case FIP_IS_DIRECTORY: /* fip-vol-1 */
        return has_head || expects_head(&expected) ? "unsigned" : NULL;
    default:
        trouble_with_peer("the server does not give the head of its volume");
    }
    verdict = verify_head(&(struct bytes){ok->record.record_val, ok->record.record_len}, &expected, &found);
    FREE(record, &result);
    if (verdict != NULL)
        return verdict;
    verdict = compare_head(&found);
    if (has_head && (verdict != NULL || found.statement.claim.fim_claim_u.volume.when.generation == head_generation())) {
        free_verified(&found);
        return verdict;
    }
    if (has_head)
        free_verified(&head);
    head = found;
    has_head = true;
    return NULL;
}

void begin_with_head(void)
{
    const char *verdict = ask_head();

    if (verdict != NULL)
        end_with(verdict);
}

int print_under_one_head(bool (*attempt)(const struct bytes *), const struct bytes *path, const bool *printed)
{
    begin_with_head();
    if (!has_head)
        trouble_with_peer("the server has no volume");
    for (int heads = 1; !attempt(path); heads++) {
        uint64_t before = head_generation();
        if (*printed || heads == HEADS_MAX)
            end_with("stale");
        begin_with_head();
        if (head_generation() == before)
            trouble_with_peer("malformed-reply: another head than the one that the server gives"); /* fip-entries-3 */
    }
    if (fflush(stdout) != 0) {
        perror("standard output");
        return 4;
    }
    return 0;
}

static void ask_revocation(void)
{
    fip_revocation_args arguments = {{0, NULL}, {0, NULL}};
    fip_revocation_result result;
    struct bytes received;
    const char *verdict;

    switch (CALL(FIPPROC_REVOCATION, revocation, &arguments, &result)) {
    case FIP_UNSIGNED:
        return; /* fip-revoke-10 */
    case FIP_UNCHANGED:
        trouble_with_peer("malformed-reply: no revocation for a client that has none"); /* fip-revoke-6 */
    case FIP_OK:
        break;
    default:
        trouble_with_peer("the server does not tell what is revoked");
    }
    received = (struct bytes){result.fip_revocation_result_u.ok.record.record_val,
                              result.fip_revocation_result_u.ok.record.record_len};
    verdict = verify_revocation(&received, &expected);
    if (verdict != NULL)
        fprintf(stderr, "revocation: %s\n", verdict); /* fim-rev-9 */
    FREE(revocation, &result);
}

void begin_session(const char *file)
{
    marks.file = file;
    ask_revocation();
}
