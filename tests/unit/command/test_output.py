# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names, numbers and times, as people and programs get them."""

from __future__ import annotations

import pytest

from nfsverity_command.output import (
    count_text,
    file_fields,
    name_fields,
    printable,
    scheme_name,
    seconds_text,
    shown,
    time_text,
)
from nfsverity_proto.signature import SCHEME_NAMES
from nfsverity_proto.statement import NO_END, Time


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (b"plain", {"path": "plain"}),
        ("grün".encode(), {"path": "grün"}),
        (b"caf\xe9", {"path": None, "path_base64": "Y2Fm6Q=="}),
        (b"", {"path": ""}),
    ],
)
def test_a_name_in_json(name: bytes, fields: dict[str, object]) -> None:
    assert name_fields("path", name) == fields


def test_a_file_in_json() -> None:
    assert file_fields(None) == {"file": None}
    assert file_fields("nfsv://h:1/caf%E9") == {"file": "nfsv://h:1/caf%E9"}
    assert file_fields("/t/caf\udce9") == {"file": "/t/caf%E9", "file_base64": "L3QvY2Fm6Q=="}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"a b", "a b"),
        ("grün".encode(), "grün"),
        (b"caf\xe9", "caf\\xe9"),
        (b"a\nb", "a\\x0ab"),
        (b"\x1b[31m", "\\x1b[31m"),
        ("\u202e".encode(), "\\u202e"),
        ("\U000e0001".encode(), "\\U000e0001"),
    ],
)
def test_a_name_for_people_is_one_harmless_line(name: bytes, text: str) -> None:
    assert shown(name) == text


def test_lines_stay_lines() -> None:
    assert printable("a\nb\tc") == "a\nb\\x09c"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (1_795_519_675, "2026-11-24T11:27:55Z"),
        (NO_END, f"{NO_END} seconds after 1970"),
        (-(2**63), f"{-(2**63)} seconds after 1970"),
    ],
)
def test_a_time_for_people(seconds: int, text: str) -> None:
    assert seconds_text(seconds) == text
    assert time_text(Time(seconds, 0)) == text


def test_nanoseconds_are_shown_where_there_are_some() -> None:
    assert time_text(Time(0, 5)) == "1970-01-01T00:00:00.000000005Z"


def test_numbers_for_people() -> None:
    assert count_text(1_234_567, "byte") == "1,234,567 bytes"
    assert count_text(1, "file") == "1 file"
    assert count_text(0, "file") == "0 files"
    assert count_text(2, "entry", "entries") == "2 entries"


def test_schemes_have_names() -> None:
    assert [scheme_name(number) for number in SCHEME_NAMES.values()] == list(SCHEME_NAMES)
    assert scheme_name(0x0401) == "0x0401"
