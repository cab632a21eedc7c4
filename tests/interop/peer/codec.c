/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Decodes messages with rpcgen's functions and encodes them again, for tests.
 *
 * On standard input, as often as wanted: the length of a type's name, the name, the length of an encoding, the
 * encoding; lengths are of 4 bytes, big-endian. On standard output for each: the length of what it is when encoded
 * again, and the bytes; or ffffffff if all of it cannot be decoded as one of the type. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "fip.h"

#define TYPE(name) {#name, (xdrproc_t)xdr_##name, sizeof(name)}
static const struct type {
    const char *name;
    xdrproc_t xdr;
    size_t size;
} types[] = {
#include "types.h" /* TYPE(name), for each type of the .x files: made by the tests */
};

static const struct type *find(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    fprintf(stderr, "no type %s\n", name);
    exit(2);
}

static char *read_bytes(uint32_t *size)
{
    char *bytes;

    if (fread(size, 4, 1, stdin) != 1)
        exit(0);
    *size = ntohl(*size);
    bytes = calloc(*size + 1, 1);
    if (bytes == NULL || fread(bytes, 1, *size, stdin) != *size)
        exit(1);
    return bytes;
}

int main(void)
{
    for (;;) {
        uint32_t name_size, size, word;
        char *name = read_bytes(&name_size), *encoded = read_bytes(&size), *again;
        const struct type *type = find(name);
        void *value = calloc(1, type->size);
        unsigned long length;
        XDR xdrs;
        xdrmem_create(&xdrs, encoded, size, XDR_DECODE);
        if (!type->xdr(&xdrs, value) || XDR_GETPOS(&xdrs) != size) {
            word = htonl(0xffffffff);
            fwrite(&word, 4, 1, stdout);
        } else {
            length = xdr_sizeof(type->xdr, value);
            again = malloc(length + 1);
            xdrmem_create(&xdrs, again, length, XDR_ENCODE);
            if (!type->xdr(&xdrs, value))
                return 1;
            word = htonl(length);
            fwrite(&word, 4, 1, stdout);
            fwrite(again, 1, length, stdout);
            free(again);
        }
        fflush(stdout);
        xdr_free(type->xdr, value);
        free(value);
        free(encoded);
        free(name);
    }
}
