# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""--key and --cert: who signs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .failure import LocalProblem

if TYPE_CHECKING:
    from nfsverity_publisher.keys import SigningKey


def load_keys(keys: Sequence[str], certificates: Sequence[str]) -> list[SigningKey]:
    """Each key with its certificate."""
    if len(keys) != len(certificates):
        raise click.UsageError("each --key needs its --cert, and the other way round")
    found = [_load(Path(key), Path(certificate)) for key, certificate in zip(keys, certificates, strict=True)]
    if len({key.certificate.fingerprint for key in found}) != len(found):
        raise click.UsageError("the same certificate is given twice")
    return found


def _load(key: Path, certificate: Path) -> SigningKey:
    from nfsverity_publisher.keys import load_signing_key

    try:
        return load_signing_key(key, certificate)
    except ValueError as error:
        raise LocalProblem(str(error)) from error
