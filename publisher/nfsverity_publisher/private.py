# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Private keys that lie where they would be published."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from nfsverity_store.content import open_file

from .lock import PublicationError


class PrivateKeys:
    """Tells the files that are, or have the content of, a private key."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._keys: dict[tuple[int, int], tuple[Path, bytes]] = {}
        for path in paths:
            status = path.stat()
            self._keys[status.st_dev, status.st_ino] = path, path.read_bytes()
        self.sizes = {len(data) for _, data in self._keys.values()}
        """Of the files that `check` looks at; it need not be called for others."""

    def __enter__(self) -> PrivateKeys:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.clear()

    def check(self, status: os.stat_result, directory: int, name: bytes, above: bytes) -> None:
        """Raises `PublicationError` for a file, in an open directory of path `above`, that holds a key."""
        if status.st_size not in self.sizes:
            return
        key = self._keys.get((status.st_dev, status.st_ino))
        if key is None:
            with contextlib.suppress(OSError), os.fdopen(open_file(name, directory), "rb") as file:
                content = file.read(status.st_size)
                key = next((key for key in self._keys.values() if key[1] == content), None)
        if key is not None:
            path = os.fsdecode(os.path.join(above, name))
            raise PublicationError(f"{path} is the private key {key[0]}: move it out of the tree first")
