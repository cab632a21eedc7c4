# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of arguments, and the names they are chosen from.

The names are those of the modules that do the work; they stand here too so that help and completion need not
import these. A test holds both equal.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import click

from nfsverity_proto.url import Url, is_url, parse_url

from .output import percent_encoded

KEY_ALGORITHMS = ("ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-pss", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
HASHES = ("sha256", "sha384", "sha512", "sha3-256", "blake3")
PRESENTATIONS = ("ahead", "on-demand", "inline", "reconstruct")
UNIT_LOG2_MIN, UNIT_LOG2_MAX = 12, 24
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BYTES = re.compile(r"([0-9]{1,19})([KMGT]?)(?:i?B)?", re.IGNORECASE)


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]  # generic in newer ones
else:
    _ParamType = click.ParamType


LOCAL = "file:///"


def local_url(text: str) -> str:
    """A URL of this machine, percent-encoded as trees on it are named."""
    return "file://" + percent_encoded(unquote_to_bytes(os.fsencode(text.removeprefix("file://"))))


class Parameter(_ParamType):
    """A type that `parse` makes from text, with `ValueError` for what is none."""

    def parse(self, text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Bytes(Parameter):
    """A number of bytes; K, M, G and T are powers of 1,024."""

    name = "bytes"

    def parse(self, text: str) -> int:
        match = _BYTES.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a number of bytes, as 65536 or 64K")
        return int(match[1]) * _FACTORS[match[2].upper()]


class UnitSize(Bytes):
    """A power of two; its logarithm."""

    name = "unit size"

    def parse(self, text: str) -> int:
        size = super().parse(text)
        log2 = size.bit_length() - 1
        if not UNIT_LOG2_MIN <= log2 <= UNIT_LOG2_MAX or size != 1 << log2:
            raise ValueError(f"{text} is not a power of two from {1 << UNIT_LOG2_MIN} to {1 << UNIT_LOG2_MAX} (16M)")
        return log2


class ByteRange(Parameter):
    """OFFSET:LENGTH, or OFFSET: for all that follows (length None)."""

    name = "range"

    def parse(self, text: str) -> tuple[int, int | None]:
        offset, colon, length = text.partition(":")
        if not colon:
            raise ValueError(f"{text!r} is not OFFSET:LENGTH in bytes, as 1M:64K, nor OFFSET:")
        return BYTES.parse(offset), BYTES.parse(length) if length else None


class VolumeId(Parameter):
    name = "volume ID"

    def parse(self, text: str) -> bytes:
        try:
            volume = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            volume = b""
        if len(volume) != 16:
            raise ValueError(f"{text!r} is not a volume ID: 32 hexadecimal digits")
        return volume


class AuditHead(Parameter):
    """The number and the hash of a line of an audit log."""

    name = "head"

    def parse(self, text: str) -> tuple[int, bytes]:
        seq, _, digest = text.partition(":")
        try:
            found = int(seq), bytes.fromhex(digest)
        except ValueError:
            found = 0, b""
        if found[0] < 1 or len(found[1]) != 32:
            raise ValueError(f"{text!r} is not LINE:HASH, as `nfsverity audit verify` prints it")
        return found


class NewVolumeId(VolumeId):
    """The same, or `new` for a random one."""

    def parse(self, text: str) -> bytes:
        return os.urandom(16) if text == "new" else super().parse(text)


class Address(Parameter):
    """HOST:PORT, as it is listened at."""

    name = "address"

    def parse(self, text: str) -> tuple[str, int]:
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT, as 127.0.0.1:12049 or [::1]:0")
        return host, int(port)


class NfsvUrl(Parameter):
    name = "URL"

    def parse(self, text: str) -> Url:
        return parse_url(text)


class Target(Parameter):
    """A URL, or a path on this machine; also as the URL that messages name it by."""

    name = "target"

    def parse(self, text: str) -> Url | Path:
        if text.startswith(LOCAL):
            return Path(os.fsdecode(unquote_to_bytes(os.fsencode(text.removeprefix("file://")))))
        return parse_url(text) if is_url(text) else Path(text)


class Prefix(Parameter):
    """The URL of a file or directory: what is at it and below."""

    name = "URL prefix"

    def parse(self, text: str) -> str:
        return local_url(text) if text.startswith(LOCAL) else str(parse_url(text))


class Day(Parameter):
    """The last second of a day, or a moment (RFC 3339); Unix seconds, UTC where no zone is given."""

    name = "date"

    def parse(self, text: str) -> int:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a date, as 2027-01-31 or 2027-01-31T12:00:00Z") from None
        if re.fullmatch(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text):
            moment = moment.replace(hour=23, minute=59, second=59)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


BYTES = Bytes()
UNIT_SIZE = UnitSize()
RANGE = ByteRange()
VOLUME = VolumeId()
NEW_VOLUME = NewVolumeId()
HEAD = AuditHead()
ADDRESS = Address()
URL = NfsvUrl()
TARGET = Target()
PREFIX = Prefix()
DAY = Day()
