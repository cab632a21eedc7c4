/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* The chapter "Algorithms" of File Integrity Metadata. */
#ifndef SIGNATURES_H
#define SIGNATURES_H

#include <stdbool.h>

#include <openssl/evp.h>

#include "canonical.h"
#include "fim.h"

struct scheme {
    unsigned int number;
    const char *digest; /* NULL: the scheme has its own */
    int key;
    const char *group;
};

/* NULL, or the verdict on a hash of this number. */
const char *check_hash(unsigned int number);
/* NULL for a number that is not known here. */
const struct scheme *scheme_of(unsigned int number);
bool fits(const struct scheme *scheme, EVP_PKEY *key);
/* What a signer signs; to be freed. */
struct bytes signed_bytes(const fim_signature *signature, const fim_record *record);
bool is_signature(const struct scheme *scheme, EVP_PKEY *key, const fim_signature *signature,
                  const struct bytes *message);

#endif
