/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Calls of the File Integrity Protocol. Trouble with the peer ends the program, with exit status 3. */
#ifndef CALLS_H
#define CALLS_H

#include "fip.h"

void connect_to(const char *host, const char *port);

_Noreturn void trouble_with_peer(const char *what);

/* One call. `result` is zeroed and filled in, and its status returned; xdr_free it with `results`. A result that
 * is not the one canonical encoding, or has a status that the procedure does not return, is trouble. BUSY is asked
 * again, and is trouble in the end. */
fip_status call(unsigned int procedure, xdrproc_t arguments_xdr, void *arguments, xdrproc_t result_xdr, void *result,
                size_t size);

#define CALL(procedure, name, arguments, result)                                                                      \
    call(procedure, (xdrproc_t)xdr_fip_##name##_args, arguments, (xdrproc_t)xdr_fip_##name##_result, result,          \
         sizeof *(result))
#define FREE(name, result) xdr_free((xdrproc_t)xdr_fip_##name##_result, (char *)(result))

#endif
