# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""--days and --not-after: until when what is signed now is valid."""

from __future__ import annotations

import time

import click


def end_of(days: int | None, not_after: int | None) -> int:
    """Unix seconds; `NO_END` where neither is given."""
    from nfsverity_proto.statement import NO_END

    if days is not None and not_after is not None:
        raise click.UsageError("--days and --not-after say the same: give one of them")
    now = int(time.time())
    if not_after is None:
        return NO_END if days is None else now + days * 86400
    if not_after <= now:
        raise click.BadParameter("that is past", param_hint="--not-after")
    return not_after
