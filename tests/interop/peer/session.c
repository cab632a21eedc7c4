/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "session.h"

#include <stdio.h>
#include <stdlib.h>

#include "calls.h"

static struct revoked revoked; /* nothing, until the server told; it is not kept for the next time */
struct expected expected = {.revoked = &revoked};
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

void ask_head(void)
{
    fip_record_args arguments = {{0, NULL}, {0, NULL}, 0};
    fip_record_result result;
    struct verified found;
    const char *verdict;

    if (CALL(FIPPROC_RECORD, record, &arguments, &result) != FIP_OK) {
        if (has_head)
            end_with("unsigned");
        return;
    }
    verdict = verify_head(&(struct bytes){result.fip_record_result_u.ok.record.record_val,
                                          result.fip_record_result_u.ok.record.record_len},
                          &expected, &found);
    if (verdict != NULL)
        end_with(verdict);
    FREE(record, &result);
    if (has_head && found.statement.claim.fim_claim_u.volume.when.generation <= head_generation()) {
        free_verified(&found);
        return;
    }
    if (has_head)
        free_verified(&head);
    head = found;
    has_head = true;
}

void ask_revocation(void)
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
