/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Lists what a server says of itself and of its files, by the client stubs that rpcgen makes.
 *
 * usage: list HOST PORT COUNT FINGERPRINT
 *
 * Asks for NULL, LIMITS and the certificate with the SHA-256 FINGERPRINT, in hexadecimal; then walks the tree, COUNT
 * names at a time. Prints a line for each capability, limit and name, and the length of the certificate. Nothing of
 * this can be verified. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "fip.h"

static CLIENT *client;
static u_int count;

static void *answered(void *result)
{
    if (result == NULL || *(fip_status *)result != FIP_OK) {
        fprintf(stderr, "%s\n", result == NULL ? clnt_sperror(client, "no answer") : "not OK");
        exit(3);
    }
    return result;
}

static void walk(fip_handle directory, const char *above)
{
    static fip_entry none;
    fip_entry last = none;
    bool_t eof = FALSE;

    while (!eof) {
        fip_readdir_args arguments = {directory, {last.name.fim_name_len, last.name.fim_name_val}, count};
        /* The stub's result is static: what it holds is taken over before the next call, and never freed. */
        fip_readdir_result result = *(fip_readdir_result *)answered(fipproc_readdir_1(&arguments, client));
        const fip_readdir_ok *ok = &result.fip_readdir_result_u.ok;
        eof = ok->eof;
        for (u_int i = 0; i < ok->entries.entries_len; i++) {
            char path[8192];
            last = ok->entries.entries_val[i];
            snprintf(path, sizeof path, "%s/%.*s", above, (int)last.name.fim_name_len, last.name.fim_name_val);
            fip_getattr_args asked = {last.object};
            fip_getattr_result *attributes = answered(fipproc_getattr_1(&asked, client));
            if (attributes->fip_getattr_result_u.ok.size != last.attributes.size)
                exit(1);
            if (last.attributes.type == FIP_DIRECTORY)
                walk(last.object, path);
            else
                printf("file %s %llu\n", path, (unsigned long long)last.attributes.size);
        }
    }
}

int main(int words, char **word)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    unsigned char fingerprint[32];
    int fd = RPC_ANYSOCK;
    fip_certificate_args asked = {{FIM_HASH_SHA256, {sizeof fingerprint, (char *)fingerprint}}};

    if (words != 5 || strlen(word[4]) != 64 || inet_pton(AF_INET, word[1], &address.sin_addr) != 1)
        return 2;
    for (size_t i = 0; i < sizeof fingerprint; i++)
        if (sscanf(word[4] + 2 * i, "%2hhx", &fingerprint[i]) != 1)
            return 2;
    address.sin_port = htons(atoi(word[2])); /* not 0, so that no port mapper is asked */
    count = atoi(word[3]);
    client = clnttcp_create(&address, FIP_PROGRAM, FIP_V1, &fd, 0, 0);
    if (client == NULL || fipproc_null_1(NULL, client) == NULL) {
        clnt_pcreateerror("unreachable");
        return 3;
    }
    fip_limits_ok *limits = &((fip_limits_result *)answered(fipproc_limits_1(NULL, client)))->fip_limits_result_u.ok;
    printf("capabilities %u\nmax_data %u\nmax_hashes %u\nmax_calls %u\nmax_wait %u\n", limits->capabilities,
           limits->max_data, limits->max_hashes, limits->max_calls, limits->max_wait);
    fip_certificate_result *certificate = answered(fipproc_certificate_1(&asked, client));
    printf("certificate %u\n",
           certificate->fip_certificate_result_u.ok.certificates.certificates_val[0].fip_der_len);
    walk((fip_handle){0, NULL}, "");
    return 0;
}
