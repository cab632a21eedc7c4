# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""How large the caches of nodes and units may be, and that they are one user's."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size_of(variable: str, default: int) -> int:
    """Bytes that a variable of the environment allows. Raises `ValueError` for a size that is none."""
    given = os.environ.get(variable)
    if not given:
        return default
    found = _SIZE.fullmatch(given)
    if found is None:
        raise ValueError(f"{variable} is {given!r}, and not a number of bytes (also as 64M, 1G)")
    return int(found[1]) * _FACTORS[found[2].upper()]


def make_private(directory: Path) -> None:
    """Make a directory that shows what was read this user's alone (fim-cache-5, fim-cache-10). Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(1, "the directory is another user's", str(directory))
    if stat.S_IMODE(found.st_mode) & 0o077:
        directory.chmod(0o700)
