/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Step 1: "Decoding" of File Integrity Metadata. What is decoded is for xdr_free, if it was decoded. */
#ifndef DECODING_H
#define DECODING_H

#include <stdbool.h>

#include "canonical.h"
#include "fim.h"

bool has_length(unsigned int number, const fim_hash *value);
bool decode_record(const struct bytes *encoded, fim_record *out);
bool decode_signature(const fim_attestation *attestation, fim_signature *out);
bool decode_membership(const fim_attestation *attestation, fim_membership *out);
/* With step 2. NULL, or the verdict. */
const char *decode_statement(const fim_record *record, fim_kind wanted, fim_statement *out);

#endif
