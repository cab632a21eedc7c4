# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""How names, numbers and times are written: for people, and for `--json`.

In JSON a number that can exceed 2^53 is a decimal string. A name that is not UTF-8 is null, and its bytes
are beside it in base64; in URLs it is percent-encoded. To people, nothing is printed that a terminal would
obey.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from nfsverity_proto.statement import Time
    from nfsverity_proto.verification import Verified

    from .checked import Vouched


def printable(text: str) -> str:
    """Text without control characters: they are shown as escapes. Line ends stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _escape(ord(char)) for char in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (PEP 383)
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(name: bytes) -> str:
    """A name or path for people, on one line."""
    return printable(name.decode("utf-8", "surrogateescape")).replace("\n", "\\x0a")


def write_json(value: object, file: TextIO | None = None) -> None:
    import json

    click.echo(json.dumps(value, indent=2), file=file)


def name_fields(key: str, name: bytes) -> dict[str, Any]:
    """A name in JSON: text, or null with the bytes beside it."""
    try:
        return {key: name.decode()}
    except UnicodeDecodeError:
        return {key: None, f"{key}_base64": base64.b64encode(name).decode()}


def percent_encoded(path: bytes) -> str:
    """As it is in a URL (RFC 3986 section 3.3)."""
    from urllib.parse import quote

    return quote(path, safe="/!$&'()*+,;=:@~")


def file_fields(file: str | None) -> dict[str, Any]:
    """A file as errors name it: a URL, which is ASCII already, or a path."""
    if file is None:
        return {"file": None}
    try:
        file.encode()
    except UnicodeEncodeError:
        data = os.fsencode(file)
        return {"file": percent_encoded(data), "file_base64": base64.b64encode(data).decode()}
    return {"file": file}


def identity_fields(verified: Verified | Vouched | None) -> dict[str, Any]:
    """Which version of what this is, and who vouches for it; nothing, for what is not verified."""
    if verified is None:
        return {"volume": None, "label": None, "generation": None, "signers": []}
    return {
        "volume": verified.volume.hex(),
        **name_fields("label", verified.label),
        "generation": str(verified.when.generation),
        "signers": [
            {
                "subject": signer.certificate.subject,
                "fingerprint": str(signer.certificate.fingerprint),
                "scheme": scheme_name(signer.scheme),
            }
            for signer in verified.signers
        ],
    }


def scheme_name(number: int) -> str:
    from nfsverity_proto.signature import SCHEME_NAMES

    return _named(SCHEME_NAMES, number)


def _named(names: Mapping[str, int], number: int) -> str:
    return next((name for name, known in names.items() if known == number), f"{number:#06x}")


def seconds_text(seconds: int) -> str:
    """RFC 3339 for Unix seconds, or the number where that has no date."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"


def time_text(time: Time) -> str:
    whole = seconds_text(time.seconds)
    return f"{whole[:-1]}.{time.nseconds:09}Z" if time.nseconds and whole.endswith("Z") else whole


PATHS_MAX = 10
"""Of many files, those that people are told by name."""


def path_lines(paths: Sequence[bytes]) -> list[str]:
    """The first of many paths, and how many more there are."""
    more = [f"and {len(paths) - PATHS_MAX:,} more"] if len(paths) > PATHS_MAX else []
    return [*map(shown, paths[:PATHS_MAX]), *more]


def count_text(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
