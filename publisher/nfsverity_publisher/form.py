# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Publishing a tree in the form that it has, that is asked for, or that is natural for what is to be signed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .transaction import Form, Options, Report, form_of, previous_head

if TYPE_CHECKING:
    from .directory import Progress
    from .keys import SigningKey


def form_for(root: Path, below: Sequence[bytes], wanted: Form | None) -> Form:
    """A tree keeps the form that it has, and what is new becomes a volume.

    Lone files do not, as a head would say of all else in their folder that it is not there. Raises `StoreError` for
    a tree whose metadata is damaged.
    """
    if wanted is not None:
        return wanted
    previous = previous_head(root)
    if previous is not None:
        return form_of(previous)
    return Form.VOLUME if any(os.path.isdir(root / os.fsdecode(path)) for path in below) else Form.RECORDS


def publish(
    root: Path,
    below: Sequence[bytes],
    keys: Sequence[SigningKey],
    options: Options,
    progress: Progress | None = None,
    private: Sequence[Path] = (),
    waiting: Callable[[], None] | None = None,
) -> Report:
    """Sign what is at `below` (paths in the tree) and publish it, all at once; as in `publication.publish`.

    Where another process changes the form meanwhile, it ends in `PublicationError`.
    """
    if form_for(root, below, options.form) is Form.VOLUME:
        from .volume import publish_volume as sign  # what is not needed would be a part of the program's start
    else:
        from .publication import publish as sign
    return sign(root, below, keys, options, progress, private, waiting)
