/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Reading the file at the expected path. What is not verified ends the program, as session.h and calls.h have it. */
#ifndef READER_H
#define READER_H

#include <stddef.h>

enum presentation { AHEAD, ON_DEMAND, INLINE, RECONSTRUCT, PLAIN, PRESENTATIONS };

typedef void (*deliver_function)(const char *data, size_t size);

/* The whole file, by one of the first four presentations. */
void read_verified(enum presentation presentation, deliver_function deliver);
/* What the server has, unverified: only ever where the user said so (fip-plain-8). */
void read_plain(deliver_function deliver);

#endif
