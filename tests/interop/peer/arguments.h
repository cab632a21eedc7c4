/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* What the programs are told on their command lines. What cannot be read ends them, with exit status 4. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <stdbool.h>

#include "canonical.h"

void *allocated(size_t size);
struct bytes read_file(const char *name);
/* The DER of the certificate in a PEM file; or of all in it, up to `most`. */
struct bytes read_certificate(const char *name);
void read_certificates(const char *name, struct bytes *out, int most);
/* Of 32 hexadecimal digits. */
bool parse_volume(const char *text, unsigned char volume[16]);

#endif
