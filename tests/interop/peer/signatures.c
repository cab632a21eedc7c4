/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "signatures.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/rsa.h>

#include "tree.h"

const char *check_hash(unsigned int number)
{
    const struct hash *hash = hash_of(number);

    if (number >= 2 && number <= 6) /* truncations of SHA-256 */
        return "refused-algorithm";
    return hash == NULL || hash->name == NULL ? "unsupported" : NULL;
}

/* Of the draft's table; those for ML-DSA are left out, which OpenSSL has from 3.5 on. */
static const struct scheme schemes[] = {
    {FIM_SCHEME_ED25519, NULL, EVP_PKEY_ED25519, NULL},
    {FIM_SCHEME_ECDSA_P256, "SHA256", EVP_PKEY_EC, "prime256v1"},
    {FIM_SCHEME_ECDSA_P384, "SHA384", EVP_PKEY_EC, "secp384r1"},
    {FIM_SCHEME_RSA_PSS, "SHA256", EVP_PKEY_RSA, NULL},
};

const struct scheme *scheme_of(unsigned int number)
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

bool fits(const struct scheme *scheme, EVP_PKEY *key)
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

bool is_signature(const struct scheme *scheme, EVP_PKEY *key, const fim_signature *signature,
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
struct bytes signed_bytes(const fim_signature *signature, const fim_record *record)
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
