/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "decoding.h"

#include <arpa/inet.h>

#include "entries.h"
#include "paths.h"
#include "revoked.h"
#include "tree.h"

/* Where its number is in the draft's table a digest has the length of its hash; elsewhere any. */
bool has_length(unsigned int number, const fim_hash *value)
{
    const struct hash *hash = hash_of(number);

    return hash == NULL || value->fim_hash_len == hash->length;
}

static int compare_attestations(const fim_attestation *one, const fim_attestation *two)
{
    u_int one_length = one->body.body_len, two_length = two->body.body_len;
    int order;

    if (one->type != two->type)
        return one->type < two->type ? -1 : 1;
    order = compare(one->body.body_val, two->body.body_val, one_length < two_length ? one_length : two_length);
    return order != 0 ? order : (one_length > two_length) - (one_length < two_length);
}

bool decode_signature(const fim_attestation *attestation, fim_signature *out)
{
    struct bytes body = {attestation->body.body_val, attestation->body.body_len};

    if (!decode_canonical((xdrproc_t)xdr_fim_signature, &body, out, sizeof *out))
        return false;
    if (has_length(out->signer.hash, &out->signer.digest))
        return true;
    xdr_free((xdrproc_t)xdr_fim_signature, (char *)out);
    return false;
}

/* The body of type 2: entries are looked at one by one, each of which has one encoding. */
bool decode_membership(const fim_attestation *attestation, fim_membership *out)
{
    struct bytes body = {attestation->body.body_val, attestation->body.body_len};

    if (!decode_canonical((xdrproc_t)xdr_fim_membership, &body, out, sizeof *out))
        return false;
    if (has_length(out->head.hash, &out->head.digest) && out->range.entries.entries_len == 1 &&
        is_sound_entry(&out->range.entries.entries_val[0]))
        return true;
    xdr_free((xdrproc_t)xdr_fim_membership, (char *)out);
    return false;
}

/* All of the record but the statement (fim-dec-4). rpcgen's decoder sets memory aside for a length that is within
 * its bound, whether or not the bytes are there: 1 MiB at most (fim-dec-3 asks for less). */
bool decode_record(const struct bytes *encoded, fim_record *out)
{
    if (encoded->size > FIM_RECORD_MAX)
        return false;
    if (!decode_canonical((xdrproc_t)xdr_fim_record, encoded, out, sizeof *out))
        return false;
    if (out->attestations.attestations_len == 0)
        return false;
    for (u_int i = 0; i < out->attestations.attestations_len; i++) {
        const fim_attestation *attestation = &out->attestations.attestations_val[i];
        fim_signature signature;
        fim_membership membership;
        if (i > 0 && compare_attestations(attestation - 1, attestation) >= 0)
            return false;
        if (attestation->type == FIM_MEMBERSHIP) {
            if (i > 0 && (attestation - 1)->type == FIM_MEMBERSHIP) /* fim-rec-9 */
                return false;
            if (!decode_membership(attestation, &membership))
                return false;
            xdr_free((xdrproc_t)xdr_fim_membership, (char *)&membership);
        }
        if (attestation->type == FIM_SIGNATURE) {
            if (!decode_signature(attestation, &signature))
                return false;
            xdr_free((xdrproc_t)xdr_fim_signature, (char *)&signature);
        }
    }
    return true;
}

static bool is_sound_content(const fim_content *content, unsigned int hash)
{
    const fim_tree *tree = &content->tree;

    return content->mtime.nseconds <= 999999999 && tree->unit_log2 >= FIM_UNIT_LOG2_MIN &&
           tree->unit_log2 <= FIM_UNIT_LOG2_MAX && tree->size <= INT64_MAX && has_length(hash, &tree->root);
}

static bool is_sound_file(const fim_file *file, unsigned int hash)
{
    return is_name(file->label.fim_name_val, file->label.fim_name_len) &&
           is_path(file->path.fim_path_val, file->path.fim_path_len) && file->when.generation != UINT64_MAX &&
           is_sound_content(&file->content, hash);
}

static bool is_sound_volume(const fim_volume *volume, unsigned int hash)
{
    return is_name(volume->label.fim_name_val, volume->label.fim_name_len) && volume->when.generation != UINT64_MAX &&
           volume->entries <= INT64_MAX && has_length(hash, &volume->root);
}

static bool is_sound_revocation(const fim_revocation *revocation)
{
    for (u_int i = 0; i < revocation->items.items_len; i++) {
        const fim_item *item = &revocation->items.items_val[i];
        if (!has_length(item->hash, &item->digest) || (i > 0 && compare_items(item - 1, item) >= 0))
            return false; /* fim-rev-2 */
    }
    return is_name(revocation->label.fim_name_val, revocation->label.fim_name_len) &&
           revocation->when.generation != UINT64_MAX;
}

static bool is_sound(const fim_statement *statement)
{
    for (u_int i = 1; i < statement->extensions.extensions_len; i++)
        if (statement->extensions.extensions_val[i - 1].number >= statement->extensions.extensions_val[i].number)
            return false;
    if (statement->claim.kind == FIM_REVOCATION)
        return is_sound_revocation(&statement->claim.fim_claim_u.revocation);
    if (statement->claim.kind == FIM_VOLUME)
        return is_sound_volume(&statement->claim.fim_claim_u.volume, statement->hash);
    if (statement->claim.kind == FIM_CONTENT)
        return is_sound_content(&statement->claim.fim_claim_u.content, statement->hash);
    return is_sound_file(&statement->claim.fim_claim_u.file, statement->hash);
}

/* Magic, format and kind come before all the rest, which another format or kind may have otherwise. */
const char *decode_statement(const fim_record *record, fim_kind wanted, fim_statement *out)
{
    struct bytes encoded = {record->statement.statement_val, record->statement.statement_len};
    uint32_t words[4];

    copy(words, encoded.data, encoded.size < sizeof words ? encoded.size : sizeof words);
    if (encoded.size < 4 || ntohl(words[0]) != FIM_MAGIC || encoded.size < 8)
        return "malformed";
    if (ntohl(words[1]) != FIM_FORMAT)
        return "unsupported";
    if (encoded.size < 16)
        return "malformed";
    if (ntohl(words[3]) < FIM_CONTENT || ntohl(words[3]) > FIM_REVOCATION)
        return "malformed";
    if (ntohl(words[3]) != wanted)
        return "wrong-kind";
    if (!decode_canonical((xdrproc_t)xdr_fim_statement, &encoded, out, sizeof *out) || !is_sound(out))
        return "malformed";
    return NULL;
}
