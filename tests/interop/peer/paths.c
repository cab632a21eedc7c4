/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE /* memrchr */
#include "paths.h"

#include <string.h>

#include "fim.h"

bool is_name(const char *name, size_t length)
{
    return length >= 1 && length <= 255 && memchr(name, '/', length) == NULL && memchr(name, 0, length) == NULL &&
           !(length == 1 && name[0] == '.') && !(length == 2 && name[0] == '.' && name[1] == '.');
}

bool is_path(const char *path, size_t length)
{
    struct bytes rest = {(char *)path, length}, name;

    if (length == 0 || path[length - 1] == '/')
        return false;
    for (int names = 0; next_name(&rest, &name); names++)
        if (names == FIM_DEPTH_MAX || !is_name(name.data, name.size))
            return false;
    return true;
}

bool next_name(struct bytes *path, struct bytes *name)
{
    char *slash;

    if (path->size == 0)
        return false;
    slash = memchr(path->data, '/', path->size);
    name->data = path->data;
    name->size = slash == NULL ? path->size : (size_t)(slash - path->data);
    path->size -= slash == NULL ? name->size : name->size + 1;
    path->data += slash == NULL ? name->size : name->size + 1;
    return true;
}

void split_path(const struct bytes *path, struct bytes *parent, struct bytes *name)
{
    char *slash = path->size == 0 ? NULL : memrchr(path->data, '/', path->size);
    size_t size = slash == NULL ? 0 : slash - path->data, start = slash == NULL ? 0 : size + 1;

    *parent = (struct bytes){path->data, size};
    *name = (struct bytes){path->data + start, path->size - start};
}
