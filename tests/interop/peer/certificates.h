/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* The chapter "Certificates" of File Integrity Metadata, for signers that are pinned. */
#ifndef CERTIFICATES_H
#define CERTIFICATES_H

#include <stdbool.h>

#include <openssl/x509.h>

#include "canonical.h"

/* NULL if it cannot be decoded by the rules of fim-cert-3. */
X509 *decode_certificate(const struct bytes *der);
const char *check_usage(X509 *certificate);
bool is_encoded_once(X509_PUBKEY *encoded, EVP_PKEY *key);
struct bytes key_of(X509 *certificate);

#endif
