/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause */
/* What one session knows: what its user expects, what is revoked, and the head that it accepted. */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>

#include "verify.h"

extern struct expected expected;
extern struct verified head; /* the accepted one, where the server has a volume */
extern bool has_head;

/* Exit status 1, and the verdict on standard error. */
_Noreturn void end_with(const char *verdict);
uint64_t head_generation(void);
/* RECORD of the root (fip-head-1). NULL, or the verdict on what was given, which then changes nothing. A head that was
 * accepted before gives way to a strictly newer one (fim-head-4). Where there is none, and none is expected, there is
 * nothing to judge: that is no verdict either. */
const char *ask_head(void);
/* The same; a verdict ends the program. */
void begin_with_head(void);
enum { HEADS_MAX = 8 }; /* that are followed while nothing has been delivered yet */
/* All that `attempt` prints of a path, under one head (fim-head-3): a newer one is followed until something was printed.
 * `attempt` is false where the head is another one by now. The exit status. */
int print_under_one_head(bool (*attempt)(const struct bytes *), const struct bytes *path, const bool *printed);
/* The revocation, before the first record is judged (fip-revoke-7), and the marks that are kept: in a file, if its name
 * is not NULL. */
void begin_session(const char *marks);

#endif
