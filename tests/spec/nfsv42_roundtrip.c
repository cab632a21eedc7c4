/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Decodes standard input as one value of the type that is named, with rpcgen's code, and writes it encoded again.
 * Exit status 1: not one whole value of the type. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "merged.h"

enum { BYTES_MAX = 5 << 20 }; /* the largest value of the tests is an INTEGRITY_TREE of 4 MiB */

static char input[BYTES_MAX], output[BYTES_MAX];
static union {
    COMPOUND4args compound_args;
    COMPOUND4res compound_res;
    nfs_argop4 argop;
    nfs_resop4 resop;
    fattr4 attributes;
    fattr4_integrity_support support;
    fattr4_integrity_state state;
    fattr4_integrity_records records;
    fattr4_integrity_volume volume;
    fattr4_integrity_content content;
    fattr4_integrity_volume_state volume_state;
} value;

static const struct {
    const char *name;
    xdrproc_t codec;
} types[] = {
    {"COMPOUND4args", (xdrproc_t)xdr_COMPOUND4args},
    {"COMPOUND4res", (xdrproc_t)xdr_COMPOUND4res},
    {"nfs_argop4", (xdrproc_t)xdr_nfs_argop4},
    {"nfs_resop4", (xdrproc_t)xdr_nfs_resop4},
    {"fattr4", (xdrproc_t)xdr_fattr4},
    {"fattr4_integrity_support", (xdrproc_t)xdr_fattr4_integrity_support},
    {"fattr4_integrity_state", (xdrproc_t)xdr_fattr4_integrity_state},
    {"fattr4_integrity_records", (xdrproc_t)xdr_fattr4_integrity_records},
    {"fattr4_integrity_volume", (xdrproc_t)xdr_fattr4_integrity_volume},
    {"fattr4_integrity_content", (xdrproc_t)xdr_fattr4_integrity_content},
    {"fattr4_integrity_volume_state", (xdrproc_t)xdr_fattr4_integrity_volume_state},
};

int main(int count, char **arguments)
{
    size_t i, length = fread(input, 1, sizeof input, stdin);
    XDR decoder, encoder;

    if (count != 2)
        return 2;
    for (i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, arguments[1]) == 0)
            break;
    if (i == sizeof types / sizeof *types)
        return 2;
    xdrmem_create(&decoder, input, (u_int)length, XDR_DECODE);
    if (!types[i].codec(&decoder, &value, 0) || xdr_getpos(&decoder) != length)
        return 1;
    xdrmem_create(&encoder, output, sizeof output, XDR_ENCODE);
    if (!types[i].codec(&encoder, &value, 0))
        return 2;
    length = xdr_getpos(&encoder);
    return fwrite(output, 1, length, stdout) == length ? 0 : 2;
}
