/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Names and paths: "Identity and Paths" of File Integrity Metadata. */
#ifndef PATHS_H
#define PATHS_H

#include <stdbool.h>

#include "canonical.h"

bool is_name(const char *name, size_t length);
/* The empty one, which stands for the root, is none here. */
bool is_path(const char *path, size_t length);
/* Take the next name off a path; false at its end. */
bool next_name(struct bytes *path, struct bytes *name);
/* The path of the directory that something is in, and its name there. */
void split_path(const struct bytes *path, struct bytes *parent, struct bytes *name);

#endif
