/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "verify.h"

#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "entries.h"
#include "paths.h"

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

/* Decoding */

/* Where its number is in the draft's table a digest has the length of its hash; elsewhere any. */
static bool has_length(unsigned int number, const fim_hash *value)
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

static bool decode_signature(const fim_attestation *attestation, fim_signature *out)
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
static bool decode_membership(const fim_attestation *attestation, fim_membership *out)
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
static bool decode_record(const struct bytes *encoded, fim_record *out)
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
static const char *decode_statement(const fim_record *record, fim_kind wanted, fim_statement *out)
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

/* Algorithms */

static const char *check_hash(unsigned int number)
{
    const struct hash *hash = hash_of(number);

    if (number >= 2 && number <= 6) /* truncations of SHA-256 */
        return "refused-algorithm";
    return hash == NULL || hash->name == NULL ? "unsupported" : NULL;
}

/* Of the draft's table; those for ML-DSA are left out, which OpenSSL has from 3.5 on. */
static const struct scheme {
    unsigned int number;
    const char *digest; /* NULL: the scheme has its own */
    int key;
    const char *group;
} schemes[] = {
    {FIM_SCHEME_ED25519, NULL, EVP_PKEY_ED25519, NULL},
    {FIM_SCHEME_ECDSA_P256, "SHA256", EVP_PKEY_EC, "prime256v1"},
    {FIM_SCHEME_ECDSA_P384, "SHA384", EVP_PKEY_EC, "secp384r1"},
    {FIM_SCHEME_RSA_PSS, "SHA256", EVP_PKEY_RSA, NULL},
};

static const struct scheme *scheme_of(unsigned int number)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (schemes[i].number == number)
            return &schemes[i];
    return NULL;
}

/* Not canonical, or of small order (fim-sig-4, fim-sig-5): libcrypto accepts both. */
static bool is_weak_ed25519(EVP_PKEY *key)
{
    static const unsigned char small[][32] = {
        {0},
        {1},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
         0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
         0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    };
    unsigned char y[32];
    size_t length = sizeof y;
    bool above = true; /* all bytes but the first are those of p - 1, which is {0xec, 0xff, ..., 0x7f} */

    if (EVP_PKEY_get_raw_public_key(key, y, &length) != 1 || length != sizeof y)
        return true;
    y[31] &= 0x7f; /* the sign of x */
    for (int i = 1; i < 32; i++)
        above = above && y[i] == small[2][i];
    if (above && y[0] > small[2][0])
        return true;
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        if (compare(y, small[i], sizeof y) == 0)
            return true;
    return false;
}

static bool is_fitting_rsa(EVP_PKEY *key)
{
    BIGNUM *modulus = NULL, *exponent = NULL;
    int bits = EVP_PKEY_get_bits(key);
    bool fits = bits >= 2048 && bits <= 4096 && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) &&
                EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) && BN_is_odd(modulus) &&
                BN_is_odd(exponent) && BN_num_bits(exponent) >= 17 && /* odd and at least 65,537 */
                BN_num_bits(exponent) <= 31;

    BN_free(modulus);
    BN_free(exponent);
    return fits;
}

/* In its one encoding (fim-sig-13). libcrypto writes a key as it was read where there is a choice that it knows of:
 * so the form of the point and the parameters are looked at, and the rest is found by comparing. */
static bool is_encoded_once(X509_PUBKEY *encoded, EVP_PKEY *key)
{
    const unsigned char *bits;
    X509_ALGOR *algorithm;
    unsigned char *given = NULL, *again = NULL;
    int length, type, given_length, again_length;
    bool once;

    if (X509_PUBKEY_get0_param(NULL, &bits, &length, &algorithm, encoded) != 1)
        return false;
    X509_ALGOR_get0(NULL, &type, NULL, algorithm);
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_EC:
        once = type == V_ASN1_OBJECT && length > 0 && bits[0] == POINT_CONVERSION_UNCOMPRESSED;
        break;
    case EVP_PKEY_RSA:
        once = type == V_ASN1_NULL;
        break;
    default:
        once = type == V_ASN1_UNDEF;
    }
    given_length = i2d_X509_PUBKEY(encoded, &given);
    again_length = i2d_PUBKEY(key, &again);
    once = once && given_length > 0 && given_length == again_length && compare(given, again, given_length) == 0;
    OPENSSL_free(given);
    OPENSSL_free(again);
    return once;
}

static bool fits(const struct scheme *scheme, EVP_PKEY *key)
{
    char group[32];

    if (key == NULL || EVP_PKEY_get_base_id(key) != scheme->key)
        return false;
    switch (scheme->key) {
    case EVP_PKEY_ED25519:
        return !is_weak_ed25519(key);
    case EVP_PKEY_RSA:
        return is_fitting_rsa(key);
    default:
        return EVP_PKEY_get_group_name(key, group, sizeof group, NULL) && strcmp(group, scheme->group) == 0;
    }
}

static bool is_signature(const struct scheme *scheme, EVP_PKEY *key, const fim_signature *signature,
                         const struct bytes *message)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *options;
    bool valid = context != NULL &&
                 EVP_DigestVerifyInit_ex(context, &options, scheme->digest, NULL, NULL, key, NULL) == 1;

    if (valid && scheme->key == EVP_PKEY_RSA) /* MGF1 is with the same digest */
        valid = signature->value.value_len == (u_int)EVP_PKEY_get_size(key) &&
                EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) == 1 &&
                EVP_PKEY_CTX_set_rsa_pss_saltlen(options, 32) == 1;
    /* fim-sig-6 to fim-sig-9: libcrypto refuses an S not below L, compares encodings of R, and takes DER only */
    valid = valid && EVP_DigestVerify(context, (const unsigned char *)signature->value.value_val,
                                      signature->value.value_len, (const unsigned char *)message->data,
                                      message->size) == 1;
    EVP_MD_CTX_free(context);
    return valid;
}

/* fim-signed-1: the context, then the XDR of a fim_signed. */
static struct bytes signed_bytes(const fim_signature *signature, const fim_record *record)
{
    static const char label[] = "File Integrity Metadata, statement, format 1"; /* its 0x00 belongs to it */
    fim_signed signed_ = {signature->signer, signature->scheme, {0, NULL}};
    struct bytes message;
    XDR xdrs;

    signed_.statement.statement_len = record->statement.statement_len;
    signed_.statement.statement_val = record->statement.statement_val;
    message.size = 64 + sizeof label + xdr_sizeof((xdrproc_t)xdr_fim_signed, &signed_);
    message.data = malloc(message.size);
    if (message.data == NULL)
        abort();
    memset(message.data, 0x20, 64);
    memcpy(message.data + 64, label, sizeof label);
    xdrmem_create(&xdrs, message.data + 64 + sizeof label, message.size - 64 - sizeof label, XDR_ENCODE);
    if (!xdr_fim_signed(&xdrs, &signed_))
        abort();
    return message;
}

/* Certificates */

/* The value of an extension, all of it and in DER; NULL if it is not, or absent. An ASN1_BIT_STRING is then
 * written without zero bits at its end, as DER has those with names. */
static ASN1_VALUE *extension(X509 *certificate, int nid, const ASN1_ITEM *item)
{
    int at = X509_get_ext_by_NID(certificate, nid, -1);
    const ASN1_OCTET_STRING *given = at < 0 ? NULL : X509_EXTENSION_get_data(X509_get_ext(certificate, at));
    const unsigned char *data = given == NULL ? NULL : ASN1_STRING_get0_data(given);
    ASN1_VALUE *value = given == NULL ? NULL : ASN1_item_d2i(NULL, &data, ASN1_STRING_length(given), item);
    unsigned char *again = NULL;
    int length;

    if (value == NULL)
        return NULL;
    if (nid == NID_key_usage)
        ((ASN1_BIT_STRING *)value)->flags &= ~(ASN1_STRING_FLAG_BITS_LEFT | 7);
    length = ASN1_item_i2d(value, &again, item);
    if (length != ASN1_STRING_length(given) || compare(again, ASN1_STRING_get0_data(given), length) != 0) {
        ASN1_item_free(value, item);
        value = NULL;
    }
    OPENSSL_free(again);
    return value;
}

static bool is_time(const ASN1_TIME *time)
{
    int length = ASN1_STRING_length(time);
    const char *digits = (const char *)ASN1_STRING_get0_data(time);

    if (length != (ASN1_STRING_type(time) == V_ASN1_UTCTIME ? 13 : 15) || ASN1_TIME_check(time) != 1)
        return false;
    return digits[length - 1] == 'Z' && (length == 13 || memcmp(digits, "0000", 4) != 0);
}

/* The usages are looked at here and not by X509_get_key_usage, which has an opinion on the other extensions, too. */
static bool are_extensions(X509 *certificate)
{
    EXTENDED_KEY_USAGE *purposes;
    ASN1_BIT_STRING *usage;
    int count = X509_get_ext_count(certificate);
    bool are = count > 0 || X509_get0_extensions(certificate) == NULL;

    for (int i = 0; i < count; i++) {
        X509_EXTENSION *one = X509_get_ext(certificate, i);
        are = are && X509_get_ext_by_OBJ(certificate, X509_EXTENSION_get_object(one), i) < 0;
        X509_EXTENSION_set_critical(one, X509_EXTENSION_get_critical(one)); /* so that it is written as DER has it */
    }
    if (are && X509_get_ext_by_NID(certificate, NID_key_usage, -1) >= 0) {
        usage = (ASN1_BIT_STRING *)extension(certificate, NID_key_usage, ASN1_ITEM_rptr(ASN1_BIT_STRING));
        are = usage != NULL;
        ASN1_BIT_STRING_free(usage);
    }
    if (are && X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1) >= 0) {
        purposes = (EXTENDED_KEY_USAGE *)extension(certificate, NID_ext_key_usage, ASN1_ITEM_rptr(EXTENDED_KEY_USAGE));
        are = sk_ASN1_OBJECT_num(purposes) > 0;
        EXTENDED_KEY_USAGE_free(purposes);
    }
    return are;
}

/* NULL if it cannot be decoded by the rules of fim-cert-3. libcrypto keeps what it read of a certificate, and takes
 * BER: only when it has to write all of it anew does comparing find what is not DER. Names it never writes anew. */
static X509 *decode_certificate(const struct bytes *der)
{
    const unsigned char *data = (const unsigned char *)der->data;
    X509 *certificate = der->size > 16384 ? NULL : d2i_X509(NULL, &data, der->size);
    unsigned char *again = NULL;
    int length;
    bool decoded;

    if (certificate == NULL)
        return NULL;
    decoded = X509_get_version(certificate) == X509_VERSION_3 && is_time(X509_get0_notBefore(certificate)) &&
              is_time(X509_get0_notAfter(certificate)) && are_extensions(certificate);
    i2d_re_X509_tbs(certificate, NULL); /* for its effect: the next one writes it anew */
    length = i2d_X509(certificate, &again);
    decoded = decoded && length > 0 && (size_t)length == der->size && compare(again, der->data, der->size) == 0;
    OPENSSL_free(again);
    if (decoded)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static const char *check_usage(X509 *certificate)
{
    ASN1_BIT_STRING *usage =
        (ASN1_BIT_STRING *)extension(certificate, NID_key_usage, ASN1_ITEM_rptr(ASN1_BIT_STRING));
    EXTENDED_KEY_USAGE *purposes;
    bool allowed = usage != NULL && ASN1_BIT_STRING_get_bit(usage, 0); /* digitalSignature */

    ASN1_BIT_STRING_free(usage);
    if (!allowed)
        return "wrong-usage";
    if (X509_get_ext_by_NID(certificate, NID_ext_key_usage, -1) < 0)
        return NULL; /* a pinned one needs none (fim-cert-7) */
    purposes = (EXTENDED_KEY_USAGE *)extension(certificate, NID_ext_key_usage, ASN1_ITEM_rptr(EXTENDED_KEY_USAGE));
    allowed = false;
    for (int i = 0; i < sk_ASN1_OBJECT_num(purposes); i++) {
        char oid[64];
        OBJ_obj2txt(oid, sizeof oid, sk_ASN1_OBJECT_value(purposes, i), 1);
        allowed = allowed || strcmp(oid, "1.3.6.1.5.5.7.3.36") == 0; /* id-kp-documentSigning */
    }
    EXTENDED_KEY_USAGE_free(purposes);
    return allowed ? NULL : "wrong-usage";
}

/* Of the signers that passed: their keys, each once. */
struct signers {
    struct bytes keys[FIM_ATTESTATIONS_MAX];
    size_t count;
};

static void add_key(struct signers *signers, const struct bytes *key)
{
    for (size_t i = 0; i < signers->count; i++)
        if (signers->keys[i].size == key->size && compare(signers->keys[i].data, key->data, key->size) == 0)
            return;
    signers->keys[signers->count++] = *key;
}

/* In DER, of a certificate in which is_encoded_once found it to be the only form; it is kept while the program runs. */
static struct bytes key_of(X509 *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);

    if (length <= 0)
        abort();
    return (struct bytes){(char *)der, length};
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
            add_key(signers, &encoded);
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

/* Steps 1 to 12 for a file or a head. */
static const char *verify_version(const struct bytes *record, fim_kind kind, const struct expected *expected,
                                  struct verified *out)
{
    struct signers signers;
    const char *verdict;
    const fim_claim *claim = &out->statement.claim;
    const fim_when *when = kind == FIM_FILE ? &claim->fim_claim_u.file.when : &claim->fim_claim_u.volume.when;

    memset(out, 0, sizeof *out);
    verdict = check(record, kind, expected, out, &signers);
    if (verdict != NULL)
        ;
    else if (expected->revoked != NULL &&
             is_version_revoked(&expected->revoked->items, out->statement.hash, out->tag))
        verdict = "revoked"; /* step 11, but for marks: none are kept of files */
    else if (when->issued > expected->now + FIM_SKEW)
        verdict = "issued-in-future";
    else if (expected->now > when->not_after ||
             (expected->revoked != NULL && expected->now > fresh_until(expected->revoked)))
        verdict = "record-expired";
    if (verdict != NULL)
        free_verified(out);
    return verdict;
}

static void make_content_tree(struct verified *out)
{
    const fim_claim *claim = &out->statement.claim;
    const fim_content *content =
        claim->kind == FIM_FILE ? &claim->fim_claim_u.file.content : &claim->fim_claim_u.content;

    make_tree(&out->tree, hash_of(out->statement.hash), content->tree.unit_log2, content->tree.size);
    out->root = &content->tree.root;
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

/* Volumes */

struct hashes {
    const unsigned char *next;
    unsigned int length;
};

static void next_hash(void *context, unsigned int level, uint64_t index, unsigned char *out)
{
    struct hashes *hashes = context;

    (void)level, (void)index;
    memcpy(out, hashes->next, hashes->length);
    hashes->next += hashes->length;
}

/* Whether a range of one entry or more is within the volume, and its proof has the length that is due. */
static bool range_has_form(const fim_volume *volume, const struct hash *hash, const fim_range *range)
{
    struct tree tree = tree_of_entries(volume->entries, hash);
    u_int count = range->entries.entries_len;

    return count > 0 && range->first <= volume->entries && count <= volume->entries - range->first &&
           range->proof.proof_len == hash->length * proof_length(&tree, range->first, range->first + count, tree.height);
}

/* "Ranges of Entries". */
static bool range_folds(const fim_volume *volume, const struct hash *hash, const fim_range *range)
{
    u_int count = range->entries.entries_len;
    struct tree tree = tree_of_entries(volume->entries, hash);
    struct hashes hashes = {(const unsigned char *)range->proof.proof_val, hash->length};
    unsigned char *leaves, top[HASH_MAX];
    bool folds;

    if (!range_has_form(volume, hash, range))
        return false;
    leaves = malloc((size_t)count * hash->length);
    if (leaves == NULL)
        abort();
    for (u_int i = 0; i < count; i++)
        leaf_of_entry(hash, &range->entries.entries_val[i], leaves + (size_t)i * hash->length);
    fold(&tree, range->first, range->first + count, tree.height, 0, leaves, next_hash, &hashes, top);
    folds = compare(top, volume->root.fim_hash_val, hash->length) == 0;
    free(leaves);
    return folds;
}

static bool is_at(const fim_entry *entry, const struct bytes *path)
{
    size_t parent = entry->parent.fim_path_len, name = entry->name.fim_name_len;
    size_t start = parent + (parent > 0);

    return path->size == start + name && compare(path->data, entry->parent.fim_path_val, parent) == 0 &&
           (parent == 0 || path->data[parent] == '/') &&
           compare(path->data + start, entry->name.fim_name_val, name) == 0;
}

const char *verify_range(const struct verified *head, const fim_range *range)
{
    const fim_volume *volume = &head->statement.claim.fim_claim_u.volume;
    const struct hash *hash = hash_of(head->statement.hash);
    const fim_entry *entries = range->entries.entries_val;
    unsigned char empty[HASH_MAX];

    if (range->entries.entries_len == 0) {
        digest(hash, "", 0, empty);
        if (volume->entries != 0 || range->first != 0 || range->proof.proof_len != 0)
            return NOT_SHOWN;
        return compare(empty, volume->root.fim_hash_val, hash->length) == 0 ? NULL : "mismatch";
    }
    if (!range_has_form(volume, hash, range))
        return NOT_SHOWN;
    if (!range_folds(volume, hash, range)) /* fim-range-1 */
        return "mismatch";
    for (u_int i = 0; i < range->entries.entries_len; i++) { /* fim-range-2 */
        const fim_entry *one = &entries[i];
        struct bytes parent = {one->parent.fim_path_val, one->parent.fim_path_len};
        struct bytes name = {one->name.fim_name_val, one->name.fim_name_len};
        if (!is_sound_entry(one) || (one->node.type == FIM_ENTRY_FILE &&
                                     one->node.fim_node_u.file.content.fim_hash_len != hash->length))
            return "malformed";
        if (i > 0 && compare_place(one - 1, &parent, &name) >= 0)
            return "malformed";
    }
    return NULL;
}

const char *find_entry(const struct verified *head, const fim_range *range, const struct bytes *parent,
                       const struct bytes *name, const fim_entry **found)
{
    u_int count = range->entries.entries_len, at = 0;
    const char *verdict = verify_range(head, range);
    int order = -1;

    *found = NULL;
    if (verdict != NULL)
        return verdict;
    while (at < count && (order = compare_place(&range->entries.entries_val[at], parent, name)) < 0)
        at++;
    if (at < count && order == 0)
        *found = &range->entries.entries_val[at];
    else if (at < count ? at == 0 && range->first > 0 /* fim-range-3 */
                        : range->first + count != head->statement.claim.fim_claim_u.volume.entries)
        return NOT_SHOWN;
    return NULL;
}

/* Steps 3 to 11 of a member whose membership was decoded. */
static const char *check_member(const fim_membership *membership, const struct verified *head,
                                const struct expected *expected, struct verified *out)
{
    const struct hash *hash = hash_of(head->statement.hash);
    const fim_entry *entry = &membership->range.entries.entries_val[0];
    const fim_entry_file *file = &entry->node.fim_node_u.file;

    if (membership->head.hash != head->statement.hash ||
        compare(membership->head.digest.fim_hash_val, head->tag, hash->length) != 0)
        return "other-head";
    if (!is_at(entry, &expected->path))
        return "wrong-path";
    if (entry->node.type != FIM_ENTRY_FILE)
        return "wrong-kind";
    for (u_int i = 0; i < out->statement.extensions.extensions_len; i++)
        if (out->statement.extensions.extensions_val[i].critical)
            return "unknown-extension";
    if (out->statement.hash != head->statement.hash)
        return "not-member";
    if (out->statement.claim.fim_claim_u.content.tree.type != FIM_TREE_RFC9162)
        return "unsupported";
    if (!range_folds(&head->statement.claim.fim_claim_u.volume, hash, &membership->range))
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
        if (verdict == NULL && revocation->when.issued > expected->now + FIM_SKEW)
            verdict = "issued-in-future";
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
