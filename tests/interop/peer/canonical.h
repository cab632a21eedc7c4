/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef CANONICAL_H
#define CANONICAL_H

#include <stddef.h>

#include <rpc/rpc.h>

struct bytes {
    char *data;
    size_t size;
};

/* As memcpy and memcmp, but for no bytes the addresses may be NULL, as rpcgen's decoders leave them. */
void copy(void *to, const void *from, size_t size);
int compare(const void *one, const void *two, size_t size);

/* Decode all of `encoded` into the zeroed structure `out` of `size` bytes; false if that is not its one
 * canonical encoding, and then nothing is left in `out`.
 *
 * rpcgen's decoders take more than the one encoding: padding of any value, any word but 0 for TRUE, bytes after
 * the end. Encoded again these come out as they should have been, so encoding and comparing finds them. It does
 * not find a value that no enumeration has: the C type is an int, which goes out as it came in. Unions without a
 * default refuse it themselves; the caller looks at the other enumerations. */
bool_t decode_canonical(xdrproc_t xdr, const struct bytes *encoded, void *out, size_t size);

#endif
