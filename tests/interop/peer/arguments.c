/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
#include "arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/pem.h>

void *allocated(size_t size)
{
    void *memory = malloc(size + 1); /* not of no bytes */

    if (memory == NULL) {
        perror("memory");
        exit(4);
    }
    return memory;
}

static FILE *open_file(const char *name)
{
    FILE *file = fopen(name, "rb");

    if (file == NULL) {
        perror(name);
        exit(4);
    }
    return file;
}

struct bytes read_file(const char *name)
{
    FILE *file = open_file(name);
    struct stat status;
    struct bytes bytes = {NULL, 0};

    if (fstat(fileno(file), &status) == 0) {
        bytes.data = allocated(status.st_size);
        bytes.size = fread(bytes.data, 1, status.st_size, file);
    }
    if (bytes.data == NULL || bytes.size != (size_t)status.st_size) {
        perror(name);
        exit(4);
    }
    fclose(file);
    return bytes;
}

void read_certificates(const char *name, struct bytes *out, int most)
{
    FILE *file = open_file(name);
    char *label, *header;
    unsigned char *der;
    long size;
    int count = 0;

    while (count < most && PEM_read(file, &label, &header, &der, &size)) {
        OPENSSL_free(label);
        OPENSSL_free(header);
        out[count++] = (struct bytes){(char *)der, size};
    }
    fclose(file);
    if (count == 0) {
        fprintf(stderr, "%s is not in PEM\n", name);
        exit(4);
    }
}

struct bytes read_certificate(const char *name)
{
    struct bytes certificate;

    read_certificates(name, &certificate, 1);
    return certificate;
}

bool parse_volume(const char *text, unsigned char volume[16])
{
    for (int i = 0; i < 16; i++) {
        int used = 0;
        if (sscanf(text + 2 * i, "%2hhx%n", &volume[i], &used) != 1 || used != 2)
            return false;
    }
    return text[32] == 0;
}
