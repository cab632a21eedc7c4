/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "certificates.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

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
X509 *decode_certificate(const struct bytes *der)
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

const char *check_usage(X509 *certificate)
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

/* In its one encoding (fim-sig-13). libcrypto writes a key as it was read where there is a choice that it knows of:
 * so the form of the point and the parameters are looked at, and the rest is found by comparing. */
bool is_encoded_once(X509_PUBKEY *encoded, EVP_PKEY *key)
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

/* In DER, of a certificate in which is_encoded_once found it to be the only form; it is kept while the program runs. */
struct bytes key_of(X509 *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);

    if (length <= 0)
        abort();
    return (struct bytes){(char *)der, length};
}
