/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "canonical.h"

#include <stdlib.h>
#include <string.h>

void copy(void *to, const void *from, size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
}

int compare(const void *one, const void *two, size_t size)
{
    return size == 0 ? 0 : memcmp(one, two, size);
}

bool_t decode_canonical(xdrproc_t xdr, const struct bytes *encoded, void *out, size_t size)
{
    XDR xdrs;
    char *again;
    bool_t same;

    memset(out, 0, size);
    xdrmem_create(&xdrs, encoded->data, encoded->size, XDR_DECODE);
    if (!xdr(&xdrs, out) || XDR_GETPOS(&xdrs) != encoded->size) {
        xdr_free(xdr, out);
        memset(out, 0, size);
        return FALSE;
    }
    again = malloc(encoded->size + 1); /* not of no bytes */
    if (again == NULL)
        abort();
    xdrmem_create(&xdrs, again, encoded->size, XDR_ENCODE);
    same = xdr(&xdrs, out) && XDR_GETPOS(&xdrs) == encoded->size && compare(again, encoded->data, encoded->size) == 0;
    free(again);
    if (!same) {
        xdr_free(xdr, out);
        memset(out, 0, size);
    }
    return same;
}
