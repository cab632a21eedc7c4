# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The current revocation of a tree's volume, as it was published (fip, "REVOCATION")."""

from __future__ import annotations

import os
from pathlib import Path

from nfsverity_proto.record import RECORD_MAX
from nfsverity_store.layout import StoreError, revocation_path


class Revocations:
    """Remembered as long as its file is the same one; a publisher renames a new one into its place."""

    def __init__(self, root: Path) -> None:
        self._path = os.fspath(revocation_path(root))
        self._seen: tuple[int, int, int] | None = None
        self._record = b""

    def current(self) -> bytes | None:
        """None where there is none. Raises `OSError`, `StoreError`."""
        try:
            status = os.stat(self._path)
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            if seen != self._seen:
                with open(self._path, "rb") as file:
                    record = file.read(RECORD_MAX + 1)
                if not 0 < len(record) <= RECORD_MAX:
                    raise StoreError(f"{self._path} is damaged: it has {len(record)} bytes or more")
                self._seen, self._record = seen, record
        except FileNotFoundError:
            return None
        return self._record
