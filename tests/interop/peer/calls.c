/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "calls.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "canonical.h"

enum { DEADLINE = 30, TRIES = 10 }; /* seconds for a call; calls that are answered BUSY */

static CLIENT *client;

void trouble_with_peer(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(3);
}

/* The port is known, so no port mapper is asked (fip-rpc-2). */
void connect_to(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *address;
    int fd = -1;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        trouble_with_peer("unreachable: no such host");
    for (address = found; address != NULL; address = address->ai_next) {
        fd = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (fd >= 0 && connect(fd, address->ai_addr, address->ai_addrlen) == 0)
            break;
        close(fd);
    }
    if (address == NULL)
        trouble_with_peer("unreachable: no connection");
    struct netbuf server = {address->ai_addrlen, address->ai_addrlen, address->ai_addr};
    client = clnt_vc_create(fd, &server, FIP_PROGRAM, FIP_V1, 0, 0);
    if (client == NULL)
        trouble_with_peer(clnt_spcreateerror("unreachable"));
    freeaddrinfo(found);
}

/* All that is left of the message, to be decoded when it is whole: what libtirpc's own decoding leaves unread at
 * its end would go unseen. */
static bool_t xdr_rest(XDR *xdrs, struct bytes *rest)
{
    if (xdrs->x_op == XDR_FREE)
        return TRUE;
    rest->size = 0;
    while (rest->size < FIP_MESSAGE_MAX && XDR_GETBYTES(xdrs, rest->data + rest->size, 1))
        rest->size++;
    return TRUE;
}

/* Table 2. */
static bool_t is_status_of(unsigned int procedure, fip_status status)
{
#define STATUS(name) (1u << FIP_##name)
    static const unsigned int always = STATUS(OK) | STATUS(BUSY) | STATUS(IO);
    static const unsigned int file = STATUS(IS_DIRECTORY) | STATUS(UNSIGNED) | STATUS(CHANGED) | STATUS(UPDATING) |
                                     STATUS(BAD_HANDLE) | STATUS(INVALID) | STATUS(ACCESS) | STATUS(NOT_SUPPORTED);
    static const unsigned int path = STATUS(NOT_FOUND) | STATUS(NOT_DIRECTORY);
    static const unsigned int allowed[] = {
        [FIPPROC_LIMITS] = STATUS(OK),
        [FIPPROC_RESOLVE] = always | path | STATUS(BAD_HANDLE) | STATUS(INVALID) | STATUS(ACCESS),
        [FIPPROC_RECORD] = always | STATUS(IS_DIRECTORY) | STATUS(UNSIGNED) | STATUS(UNCHANGED) | STATUS(UPDATING) |
                           STATUS(BAD_HANDLE) | STATUS(INVALID) | STATUS(ACCESS),
        [FIPPROC_CERTIFICATE] = always | STATUS(NOT_FOUND) | STATUS(INVALID),
        [FIPPROC_TREE] = always | file,
        [FIPPROC_PROOF] = always | file,
        [FIPPROC_FETCH] = always | file | path,
        [FIPPROC_READ] = always | file,
        [FIPPROC_READDIR] = always | STATUS(NOT_DIRECTORY) | STATUS(BAD_HANDLE) | STATUS(INVALID) | STATUS(ACCESS) |
                            STATUS(NOT_SUPPORTED),
        [FIPPROC_GETATTR] = always | STATUS(BAD_HANDLE) | STATUS(ACCESS) | STATUS(NOT_SUPPORTED),
        [FIPPROC_REVOCATION] = always | STATUS(UNSIGNED) | STATUS(UNCHANGED) | STATUS(BAD_HANDLE) | STATUS(INVALID) |
                               STATUS(ACCESS),
        [FIPPROC_PLAIN] = always | STATUS(IS_DIRECTORY) | STATUS(BAD_HANDLE) | STATUS(INVALID) | STATUS(ACCESS) |
                          STATUS(NOT_SUPPORTED),
        [FIPPROC_ENTRIES] = always | STATUS(CHANGED) | STATUS(INVALID) | STATUS(ACCESS) | STATUS(NOT_SUPPORTED),
        [FIPPROC_BULK] = always | STATUS(CHANGED) | STATUS(INVALID) | STATUS(ACCESS) | STATUS(NOT_SUPPORTED),
    };
#undef STATUS

    return (unsigned int)status <= FIP_REFUSED && (allowed[procedure] >> status & 1);
}

fip_status call(unsigned int procedure, xdrproc_t arguments_xdr, void *arguments, xdrproc_t result_xdr, void *result,
                size_t size)
{
    static char message[FIP_MESSAGE_MAX];
    static const struct timeval deadline = {DEADLINE, 0};
    static const struct timespec pause = {0, 100 * 1000 * 1000}; /* fip-client-3 */
    struct bytes rest = {message, 0};
    fip_status status;

    for (int tries = 1;; tries++) {
        if (clnt_call(client, procedure, arguments_xdr, (char *)arguments, (xdrproc_t)xdr_rest, (char *)&rest,
                      deadline) != RPC_SUCCESS)
            trouble_with_peer(clnt_sperror(client, "no answer"));
        if (!decode_canonical(result_xdr, &rest, result, size))
            trouble_with_peer("malformed-reply: it cannot be decoded");
        status = *(fip_status *)result; /* the discriminant comes first in every result */
        if (!is_status_of(procedure, status))
            trouble_with_peer("malformed-reply: not a status of the procedure");
        if (status != FIP_BUSY)
            return status;
        if (tries == TRIES)
            trouble_with_peer("the server is busy");
        nanosleep(&pause, NULL);
    }
}
