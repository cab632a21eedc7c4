/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* Reads a file from a server of the File Integrity Protocol, verifies it, and writes its bytes to standard output.
 *
 * usage: peer HOST PORT VOLUME PATH CERTIFICATES PRESENTATION [NOW [MARKS]]
 *
 * VOLUME is a volume ID in hexadecimal, CERTIFICATES a file in PEM: the signers that are believed. PRESENTATION is
 * ahead, on-demand, inline or reconstruct, or plain, which verifies nothing; NOW is in Unix seconds, MARKS the file in
 * which marks are kept. Exit status: 0; 1 and the name of a verdict; 2 usage; 3 trouble with the peer; 4 trouble here. A
 * revocation that is not accepted is named on standard error.
 *
 * Where a volume is served, its head is verified first, and all else by it: also that there is no such file.
 *
 * Written from the text of the drafts. Calls are not pipelined, and there is no wait for updates. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arguments.h"
#include "calls.h"
#include "reader.h"
#include "session.h"

static const char *const names[] = {"ahead", "on-demand", "inline", "reconstruct", "plain"};

static _Noreturn void trouble_here(const char *what)
{
    perror(what);
    exit(4);
}

static void write_out(const char *data, size_t size)
{
    if (size > 0 && fwrite(data, 1, size, stdout) != size)
        trouble_here("standard output");
}

int main(int count, char **words)
{
    enum presentation presentation;

    for (presentation = 0; count >= 7 && presentation < PRESENTATIONS; presentation++)
        if (strcmp(words[6], names[presentation]) == 0)
            break;
    if (count < 7 || count > 9 || presentation == PRESENTATIONS || !parse_volume(words[3], expected.volume)) {
        fprintf(stderr, "usage: peer HOST PORT VOLUME PATH CERTIFICATES PRESENTATION [NOW [MARKS]]\n");
        return 2;
    }
    expected.path = (struct bytes){words[4], strlen(words[4])};
    read_certificates(words[5], expected.certificates, PINS_MAX);
    expected.now = count >= 8 ? strtoll(words[7], NULL, 10) : time(NULL);
    connect_to(words[1], words[2]);

    if (presentation == PLAIN) {
        read_plain(write_out);
    } else {
        begin_session(count == 9 ? words[8] : NULL);
        begin_with_head();
        read_verified(presentation, write_out);
    }
    if (fflush(stdout) != 0)
        trouble_here("standard output");
    return 0;
}
