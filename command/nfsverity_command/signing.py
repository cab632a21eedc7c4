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


KEY_HELP = "Private key: a PEM file, a pkcs11: URI, or command:PROGRAM ARGUMENTS that signs. Repeatable."


def load_keys(keys: Sequence[str], certificates: Sequence[str]) -> list[SigningKey]:
    """Each key with its certificate."""
    if len(keys) != len(certificates):
        raise click.UsageError("each --key needs its --cert, and the other way round")
    found = [_load(key, Path(certificate)) for key, certificate in zip(keys, certificates, strict=True)]
    if len({key.certificate.fingerprint for key in found}) != len(found):
        raise click.UsageError("the same certificate is given twice")
    return found


def key_files(keys: Sequence[str]) -> list[Path]:
    """Those that are files."""
    from nfsverity_publisher.external import is_external

    return [Path(key) for key in keys if not is_external(key)]


def _load(key: str, certificate: Path) -> SigningKey:
    from nfsverity_publisher.external import load_key

    try:
        return load_key(key, certificate, _ask)
    except ValueError as error:
        raise LocalProblem(str(error)) from error


def _ask(token: str) -> str:
    """The PIN of a token, from the terminal."""
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise LocalProblem(f"the token {token} needs its PIN: pin-source=file:PATH in its URI, or NFSVERITY_PKCS11_PIN")
    return getpass.getpass(f"PIN of the token {token}: ")
