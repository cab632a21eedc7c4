/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "verify.h"

#include <stdlib.h>
#include <string.h>

#include "certificates.h"
#include "decoding.h"
#include "signatures.h"

/* A step that failed. The verdict of the attestation that came furthest is the one that is reported. */
struct failure {
    int step;
    const char *verdict; /* NULL: none */
};

static struct failure fails(int step, const char *verdict)
{
    return (struct failure){step, verdict};
}

static const struct failure PASSED = {0, NULL};

/* Of the signers that passed: their keys, each once; and by which pin they were believed, for each attestation. */
struct signers {
    struct bytes keys[FIM_ATTESTATIONS_MAX];
    size_t count;
    struct {
        const struct bytes *pin;
        struct bytes key;
    } believed[FIM_ATTESTATIONS_MAX];
    size_t attestations;
};

static void add_key(struct signers *signers, const struct bytes *pin, const struct bytes *key)
{
    signers->believed[signers->attestations].pin = pin;
    signers->believed[signers->attestations++].key = *key;
    for (size_t i = 0; i < signers->count; i++)
        if (signers->keys[i].size == key->size && compare(signers->keys[i].data, key->data, key->size) == 0)
            return;
    signers->keys[signers->count++] = *key;
}

/* Steps 8 and 9. */
static struct failure check_signer(const fim_signature *signature, const struct scheme *scheme,
                                   const fim_record *record, const struct bytes *pin, const struct expected *expected,
                                   struct signers *signers)
{
    X509 *certificate = decode_certificate(pin);
    EVP_PKEY *key = certificate == NULL ? NULL : X509_get0_pubkey(certificate);
    struct failure failure = PASSED;
    struct bytes message, encoded;

    if (!fits(scheme, key) || !is_encoded_once(X509_get_X509_PUBKEY(certificate), key)) {
        X509_free(certificate);
        return fails(8, "bad-certificate");
    }
    encoded = key_of(certificate);
    if (expected->revoked != NULL && is_key_revoked(&expected->revoked->items, &encoded))
        failure = fails(8, "revoked");
    else if (ASN1_TIME_cmp_time_t(X509_get0_notBefore(certificate), expected->now) > 0)
        failure = fails(8, "not-yet-valid");
    else if (ASN1_TIME_cmp_time_t(X509_get0_notAfter(certificate), expected->now) < 0)
        failure = fails(8, "expired");
    else
        failure = fails(8, check_usage(certificate));
    if (failure.verdict == NULL) {
        message = signed_bytes(signature, record);
        if (!is_signature(scheme, key, signature, &message))
            failure = fails(9, "bad-signature");
        else
            add_key(signers, pin, &encoded);
        free(message.data);
    }
    X509_free(certificate);
    return failure;
}

/* Steps 6 and 7. */
static struct failure check_signature(const fim_signature *signature, const fim_record *record,
                                      const struct expected *expected, struct signers *signers)
{
    const struct scheme *scheme = scheme_of(signature->scheme);
    const char *verdict = scheme == NULL ? "unsupported" : check_hash(signature->signer.hash);
    unsigned char pinned[HASH_MAX];

    if (verdict != NULL)
        return fails(6, verdict);
    for (int i = 0; i < PINS_MAX; i++) {
        const struct bytes *pin = &expected->certificates[i];
        if (pin->data == NULL)
            continue;
        digest(hash_of(signature->signer.hash), pin->data, pin->size, pinned);
        if (compare(pinned, signature->signer.digest.fim_hash_val, signature->signer.digest.fim_hash_len) == 0)
            return check_signer(signature, scheme, record, pin, expected, signers);
    }
    return fails(7, "untrusted");
}

static const char *check_attestations(const fim_record *record, const struct expected *expected,
                                      struct signers *signers)
{
    struct failure furthest = PASSED;

    for (u_int i = 0; i < record->attestations.attestations_len; i++) {
        const fim_attestation *attestation = &record->attestations.attestations_val[i];
        struct failure failure = fails(6, "unsupported");
        fim_signature signature;
        if (attestation->type == FIM_SIGNATURE && decode_signature(attestation, &signature)) {
            failure = check_signature(&signature, record, expected, signers);
            xdr_free((xdrproc_t)xdr_fim_signature, (char *)&signature);
        }
        if (failure.verdict != NULL && failure.step > furthest.step)
            furthest = failure;
    }
    return signers->count > 0 ? NULL : furthest.verdict;
}

/* The end of step 5. */
static const char *check_claim(const fim_claim *claim)
{
    const fim_revocation *revocation = &claim->fim_claim_u.revocation;

    if (claim->kind == FIM_FILE)
        return claim->fim_claim_u.file.content.tree.type == FIM_TREE_RFC9162 ? NULL : "unsupported";
    if (claim->kind == FIM_VOLUME)
        return NULL;
    for (u_int i = 0; i < revocation->items.items_len; i++) {
        const fim_item *item = &revocation->items.items_val[i];
        const char *verdict = item->what == FIM_PUBLIC_KEY ? check_hash(item->hash) : NULL;
        if (item->what != FIM_PUBLIC_KEY && item->what != FIM_VERSION)
            return "unsupported"; /* fim-rev-4 */
        if (verdict != NULL)
            return verdict;
    }
    return NULL;
}

static const char *volume_of(const fim_claim *claim)
{
    switch (claim->kind) {
    case FIM_FILE:
        return claim->fim_claim_u.file.volume;
    case FIM_VOLUME:
        return claim->fim_claim_u.volume.volume;
    default:
        return claim->fim_claim_u.revocation.volume;
    }
}

/* Steps 1 to 10: each pin is satisfied by one signer, whoever it is. */
static const char *check(const struct bytes *record, fim_kind wanted, const struct expected *expected,
                         struct verified *found, struct signers *signers)
{
    const fim_statement *statement = &found->statement;
    const fim_claim *claim = &statement->claim;
    const fim_file *file = &claim->fim_claim_u.file;
    const char *verdict;

    memset(signers, 0, sizeof *signers);
    if (!decode_record(record, &found->record))
        return "malformed";
    verdict = decode_statement(&found->record, wanted, &found->statement);
    if (verdict != NULL)
        return verdict;
    if (compare(volume_of(claim), expected->volume, sizeof expected->volume) != 0)
        return "wrong-volume";
    if (wanted == FIM_FILE && (file->path.fim_path_len != expected->path.size ||
                               compare(file->path.fim_path_val, expected->path.data, expected->path.size) != 0))
        return "wrong-path";
    for (u_int i = 0; i < statement->extensions.extensions_len; i++)
        if (statement->extensions.extensions_val[i].critical)
            return "unknown-extension"; /* none is known */
    verdict = check_hash(statement->hash);
    if (verdict == NULL)
        verdict = check_claim(claim);
    if (verdict == NULL)
        verdict = check_attestations(&found->record, expected, signers);
    if (verdict == NULL)
        digest(hash_of(statement->hash), found->record.statement.statement_val,
               found->record.statement.statement_len, found->tag);
    return verdict;
}

/* Marks */

static struct anchors anchors_of(const struct expected *expected)
{
    struct anchors anchors = {.count = 0};

    for (int i = 0; i < PINS_MAX; i++)
        if (expected->certificates[i].data != NULL)
            mark_anchor(&expected->certificates[i], anchors.values[anchors.count++]);
    return anchors;
}

static const struct items *revoked_items(const struct expected *expected)
{
    return expected->revoked == NULL ? NULL : &expected->revoked->items;
}

bool expects_head(const struct expected *expected)
{
    struct anchors anchors = anchors_of(expected);

    return expected->marks != NULL &&
           is_head_marked(expected->marks, &anchors, expected->volume, revoked_items(expected));
}

/* What is compared with marks. */
static struct mark mark_of(const struct verified *found, const fim_when *when, const struct expected *expected)
{
    struct mark mark = {.kind = found->statement.claim.kind,
                        .generation = when->generation,
                        .hash = found->statement.hash};

    memcpy(mark.volume, expected->volume, sizeof mark.volume);
    memcpy(mark.tag, found->tag, sizeof mark.tag);
    if (mark.kind == FIM_FILE)
        mark.path = expected->path;
    return mark;
}

static const char *compare_version(const struct mark *version, const struct expected *expected,
                                   const struct items *revoked)
{
    struct anchors anchors = anchors_of(expected);

    return expected->marks == NULL ? NULL : compare_marks(expected->marks, &anchors, version, revoked);
}

static const char *raise_version(const struct mark *version, const struct signers *signers,
                                 const struct expected *expected, const struct items *revoked)
{
    struct anchors anchors = anchors_of(expected);
    struct mark versions[FIM_ATTESTATIONS_MAX];

    if (expected->marks == NULL)
        return NULL;
    for (size_t i = 0; i < signers->attestations; i++) {
        versions[i] = *version;
        versions[i].key = signers->believed[i].key;
        mark_anchor(signers->believed[i].pin, versions[i].anchor);
    }
    return raise_marks(expected->marks, &anchors, versions, signers->attestations, revoked);
}

/* Steps 1 to 12 for a file or a head. */
static const char *verify_version(const struct bytes *record, fim_kind kind, const struct expected *expected,
                                  struct verified *out)
{
    struct signers signers;
    const char *verdict;
    const fim_claim *claim = &out->statement.claim;
    const fim_when *when = kind == FIM_FILE ? &claim->fim_claim_u.file.when : &claim->fim_claim_u.volume.when;
    struct mark version;

    memset(out, 0, sizeof *out);
    verdict = check(record, kind, expected, out, &signers);
    if (verdict == NULL) {
        version = mark_of(out, when, expected);
        if (expected->revoked != NULL &&
            is_version_revoked(&expected->revoked->items, out->statement.hash, out->tag))
            verdict = "revoked";
        else
            verdict = compare_version(&version, expected, revoked_items(expected));
    }
    if (verdict != NULL)
        ;
    else if (when->issued > expected->now + FIM_SKEW)
        verdict = "issued-in-future";
    else if (expected->now > when->not_after ||
             (expected->revoked != NULL && expected->now > fresh_until(expected->revoked)))
        verdict = "record-expired";
    else
        verdict = raise_version(&version, &signers, expected, revoked_items(expected));
    if (verdict != NULL)
        free_verified(out);
    return verdict;
}

void make_content_tree(struct verified *out)
{
    const fim_claim *claim = &out->statement.claim;
    const fim_content *content =
        claim->kind == FIM_FILE ? &claim->fim_claim_u.file.content : &claim->fim_claim_u.content;

    make_tree(&out->tree, hash_of(out->statement.hash), content->tree.unit_log2, content->tree.size);
    out->root = content->tree.root;
}

const char *verify_record(const struct bytes *record, const struct expected *expected, struct verified *out)
{
    const char *verdict = verify_version(record, FIM_FILE, expected, out);

    if (verdict == NULL)
        make_content_tree(out);
    return verdict;
}

const char *verify_head(const struct bytes *record, const struct expected *expected, struct verified *out)
{
    return verify_version(record, FIM_VOLUME, expected, out);
}

/* Content */

static void no_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    (void)context, (void)level, (void)index, (void)out;
    abort(); /* all leaves are there */
}

const char *verify_content(const struct verified *version, const struct bytes *content)
{
    const struct tree *tree = &version->tree;
    unsigned char root[HASH_MAX], *leaves;

    if (content->size != tree->size)
        return "mismatch"; /* fim-proof-9; and before memory is set aside for what is only claimed */
    if (tree->n == 0) {
        digest(tree->hash, "", 0, root);
    } else {
        leaves = malloc(tree->n * tree->hash->length);
        if (leaves == NULL)
            abort();
        for (uint64_t j = 0; j < tree->n; j++)
            leaf(tree->hash, content->data + bytes_of(tree, 0, j), bytes_of(tree, j, j + 1),
                 leaves + j * tree->hash->length);
        fold(tree, 0, tree->n, tree->height, 0, leaves, no_hash, NULL, root);
        free(leaves);
    }
    if (compare(root, version->root.fim_hash_val, tree->hash->length))
        return "mismatch";
    return NULL;
}

/* Revocations */

/* Step 11 of a revocation. What is accepted of a key is its mark: the keys are pinned, so each has one. */
static const char *check_order(const struct verified *found, const struct revoked *revoked, const struct items *own)
{
    const fim_revocation *revocation = &found->statement.claim.fim_claim_u.revocation;
    struct items items = {revocation->items.items_val, revocation->items.items_len};
    uint64_t generation = revocation->when.generation;
    bool same = true;

    for (size_t i = 0; i < revoked->count; i++) {
        const struct accepted *one = &revoked->accepted[i];
        if (is_key_revoked(own, &one->key)) /* fim-rev-8 */
            continue;
        if (generation < one->generation)
            return "rollback";
        if (generation == one->generation && (one->tag_hash != found->statement.hash ||
                                              compare(one->tag, found->tag, hash_of(one->tag_hash)->length) != 0))
            same = false;
    }
    if (!same)
        return "equivocation";
    for (size_t i = 0; i < revoked->count; i++) {
        const struct accepted *one = &revoked->accepted[i];
        for (size_t j = 0; j < one->items.count && !is_key_revoked(own, &one->key); j++)
            if (!has_item(&items, &one->items.list[j]))
                return "rollback"; /* fim-rev-7 */
    }
    return NULL;
}

const char *verify_revocation(const struct bytes *record, const struct expected *expected)
{
    struct revoked *revoked = expected->revoked;
    struct verified found;
    struct signers signers;
    struct items own = {NULL, 0};
    const fim_revocation *revocation = &found.statement.claim.fim_claim_u.revocation;
    const char *verdict;
    struct mark version;

    memset(&found, 0, sizeof found);
    verdict = check(record, FIM_REVOCATION, expected, &found, &signers);
    if (verdict == NULL) {
        struct items items = {revocation->items.items_val, revocation->items.items_len};
        add_items(&own, &revoked->items);
        add_items(&own, &items);
        if (is_version_revoked(&revoked->items, found.statement.hash, found.tag))
            verdict = "revoked";
        else
            verdict = check_order(&found, revoked, &own);
        version = mark_of(&found, &revocation->when, expected);
        if (verdict == NULL)
            verdict = compare_version(&version, expected, &own);
        if (verdict == NULL && revocation->when.issued > expected->now + FIM_SKEW)
            verdict = "issued-in-future";
        if (verdict == NULL)
            verdict = raise_version(&version, &signers, expected, &own);
        for (size_t i = 0; verdict == NULL && i < signers.count; i++) { /* fim-rev-6: even if it has expired */
            struct accepted accepted = {signers.keys[i], revocation->when.generation, revocation->when.not_after,
                                        {NULL, 0}, found.statement.hash, {0}};
            add_items(&accepted.items, &items);
            memcpy(accepted.tag, found.tag, sizeof accepted.tag);
            keep_accepted(revoked, &accepted);
        }
        if (verdict == NULL)
            revoked->items = own;
        if (verdict == NULL && expected->now > revocation->when.not_after)
            verdict = "record-expired";
    }
    free_verified(&found);
    return verdict;
}

void free_verified(struct verified *verified)
{
    xdr_free((xdrproc_t)xdr_fim_statement, (char *)&verified->statement);
    xdr_free((xdrproc_t)xdr_fim_record, (char *)&verified->record);
    memset(verified, 0, sizeof *verified);
}
