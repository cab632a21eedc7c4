# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The present publication of a tree, of whichever form."""

from __future__ import annotations

from pathlib import Path

from .index import Index
from .layout import DIRECTORY, Head, StoreError, read_head
from .volume_view import VolumeView

Published = Index | VolumeView
"""Stand-alone records, or a volume: both are read in the same way."""


def open_published(root: Path) -> tuple[Head, Published]:
    """The present publication of a tree. Raises `NotPublished`, `StoreError`."""
    for _ in range(8):
        head = read_head(root)
        try:
            return head, Index(root / DIRECTORY / head.index) if head.nodes is None else VolumeView(root, head)
        except StoreError:
            if read_head(root) == head:
                raise
    raise StoreError(f"{root / DIRECTORY} changes faster than it can be read")
