/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* "Members" and "Exported Members" of File Integrity Metadata. */
#include <stdlib.h>
#include <string.h>

#include "decoding.h"
#include "ranges.h"
#include "verify.h"

static bool is_at(const fim_entry *entry, const struct bytes *path)
{
    size_t parent = entry->parent.fim_path_len, name = entry->name.fim_name_len;
    size_t start = parent + (parent > 0);

    return path->size == start + name && compare(path->data, entry->parent.fim_path_val, parent) == 0 &&
           (parent == 0 || path->data[parent] == '/') &&
           compare(path->data + start, entry->name.fim_name_val, name) == 0;
}

/* Steps 4, 5, 9 and 11 of a statement that was decoded, by the entry of its file, which is of the head's volume. A range
 * that is not NULL has to fold first. */
static const char *check_statement(const fim_entry *entry, const fim_range *range, const struct verified *head,
                                   const struct expected *expected, struct verified *out)
{
    const struct hash *hash = hash_of(head->statement.hash);
    const fim_entry_file *file = &entry->node.fim_node_u.file;

    for (u_int i = 0; i < out->statement.extensions.extensions_len; i++)
        if (out->statement.extensions.extensions_val[i].critical)
            return "unknown-extension";
    if (out->statement.hash != head->statement.hash)
        return "not-member";
    if (out->statement.claim.fim_claim_u.content.tree.type != FIM_TREE_RFC9162)
        return "unsupported";
    if (range != NULL && !range_folds(&head->statement.claim.fim_claim_u.volume, hash, range))
        return "not-member";
    if (file->content.fim_hash_len != hash->length)
        return "malformed";
    digest(hash, out->record.statement.statement_val, out->record.statement.statement_len, out->tag);
    if (compare(file->content.fim_hash_val, out->tag, hash->length) != 0)
        return "not-member";
    if (expected->revoked != NULL && is_version_revoked(&expected->revoked->items, out->statement.hash, out->tag))
        return "revoked";
    out->executable = file->executable;
    return NULL;
}

/* Steps 3 to 11 of a member whose membership was decoded. */
static const char *check_member(const fim_membership *membership, const struct verified *head,
                                const struct expected *expected, struct verified *out)
{
    const fim_entry *entry = &membership->range.entries.entries_val[0];

    if (membership->head.hash != head->statement.hash ||
        compare(membership->head.digest.fim_hash_val, head->tag, hash_of(head->statement.hash)->length) != 0)
        return "other-head";
    if (!is_at(entry, &expected->path))
        return "wrong-path";
    if (entry->node.type != FIM_ENTRY_FILE)
        return "wrong-kind";
    return check_statement(entry, &membership->range, head, expected, out);
}

const char *verify_member(const struct bytes *record, const struct verified *head, const struct expected *expected,
                          struct verified *out)
{
    const char *verdict;
    fim_membership membership;
    const fim_attestation *found = NULL;

    memset(out, 0, sizeof *out);
    if (!decode_record(record, &out->record))
        return "malformed";
    verdict = decode_statement(&out->record, FIM_CONTENT, &out->statement);
    for (u_int i = 0; i < out->record.attestations.attestations_len; i++)
        if (out->record.attestations.attestations_val[i].type == FIM_MEMBERSHIP)
            found = &out->record.attestations.attestations_val[i];
    if (verdict == NULL && (found == NULL || !decode_membership(found, &membership)))
        verdict = "not-member";
    else if (verdict == NULL) {
        verdict = check_member(&membership, head, expected, out);
        xdr_free((xdrproc_t)xdr_fim_membership, (char *)&membership);
    }
    if (verdict != NULL)
        free_verified(out);
    else
        make_content_tree(out);
    return verdict;
}

const char *verify_listed(const fim_entry *entry, const struct bytes *statement, const struct verified *head,
                          const struct expected *expected, struct verified *out)
{
    const char *verdict;

    memset(out, 0, sizeof *out);
    out->record.statement.statement_val = malloc(statement->size + 1);
    if (out->record.statement.statement_val == NULL)
        abort();
    out->record.statement.statement_len = statement->size;
    copy(out->record.statement.statement_val, statement->data, statement->size);
    verdict = decode_statement(&out->record, FIM_CONTENT, &out->statement);
    if (verdict == NULL)
        verdict = check_statement(entry, NULL, head, expected, out);
    if (verdict != NULL)
        free_verified(out);
    else
        make_content_tree(out);
    return verdict;
}

const char *verify_exported(const struct bytes *data, const struct expected *expected, struct verified *out)
{
    fim_exported exported;
    struct verified head;
    const char *verdict;

    memset(out, 0, sizeof *out);
    if (!decode_canonical((xdrproc_t)xdr_fim_exported, data, &exported, sizeof exported)) /* fim-export-1 */
        return "malformed";
    verdict = verify_head(&(struct bytes){exported.head.head_val, exported.head.head_len}, expected, &head);
    if (verdict == NULL) {
        struct bytes record = {exported.record.record_val, exported.record.record_len};
        verdict = verify_member(&record, &head, expected, out);
        free_verified(&head);
    }
    xdr_free((xdrproc_t)xdr_fim_exported, (char *)&exported);
    return verdict;
}
