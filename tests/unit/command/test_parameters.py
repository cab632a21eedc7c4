# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of arguments: what is taken, what is not, and that their names are those of the modules that do the work."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click
import pytest

from nfsverity._local_place import file_url
from nfsverity_client.presentation import Presentation
from nfsverity_command import parameters
from nfsverity_command.parameters import ADDRESS, BYTES, DAY, PREFIX, TARGET, UNIT_SIZE, URL, VOLUME
from nfsverity_proto import hashes, signature, tree
from nfsverity_proto.url import Url
from nfsverity_publisher import new_key


def test_names_and_bounds_are_those_of_the_modules_that_do_the_work() -> None:
    assert parameters.KEY_ALGORITHMS == new_key.ALGORITHMS
    assert set(parameters.KEY_ALGORITHMS) == set(signature.SCHEME_NAMES)
    assert parameters.HASHES == hashes.HASH_NAMES
    assert tuple(Presentation) == parameters.PRESENTATIONS
    assert (parameters.UNIT_LOG2_MIN, parameters.UNIT_LOG2_MAX) == (tree.UNIT_LOG2_MIN, tree.UNIT_LOG2_MAX)


def test_urls_of_this_machine_are_those_of_its_trees() -> None:
    path = bytes(range(1, 256))
    assert parameters.local_url("file:///" + quote(path)) == file_url(b"/" + path)


GOOD = [
    (BYTES, "0", 0),
    (BYTES, "65536", 65536),
    (BYTES, "64K", 65536),
    (BYTES, "64k", 65536),
    (BYTES, "64KiB", 65536),
    (BYTES, "5G", 5 * 2**30),
    (BYTES, "1T", 2**40),
    (UNIT_SIZE, "4096", 12),
    (UNIT_SIZE, "64K", 16),
    (UNIT_SIZE, "16M", 24),
    (VOLUME, "00112233445566778899aabbccddeeff", bytes.fromhex("00112233445566778899aabbccddeeff")),
    (VOLUME, "00112233-4455-6677-8899-AABBCCDDEEFF", bytes.fromhex("00112233445566778899aabbccddeeff")),
    (ADDRESS, "127.0.0.1:0", ("127.0.0.1", 0)),
    (ADDRESS, "[::1]:12049", ("::1", 12049)),
    (ADDRESS, "localhost:65535", ("localhost", 65535)),
    (URL, "nfsv://h:1/a%20b", Url("h", 1, b"a b")),
    (TARGET, "nfsv://h:1/a", Url("h", 1, b"a")),
    (TARGET, "a/b", Path("a/b")),
    (PREFIX, "nfsv://H:1/a/", "nfsv://h:1/a"),
    (PREFIX, "nfsv://h:1", "nfsv://h:1/"),
    (PREFIX, "file:///srv/data", "file:///srv/data"),
    (PREFIX, "file:///srv/my data%20\udce9", "file:///srv/my%20data%20%E9"),
    (DAY, "2027-01-31", 1801439999),
    (DAY, "2027-01-31T12:00:00Z", 1801396800),
    (DAY, "2027-01-31T12:00:00", 1801396800),
    (DAY, "2027-01-31T12:00:00+02:00", 1801389600),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD, ids=[f"{kind.name}-{text!a}" for kind, text, _ in GOOD])
def test_what_is_taken(kind: parameters.Parameter, text: str, value: object) -> None:
    assert kind.convert(text, None, None) == value


BAD = [
    (BYTES, ["", "-1", "1.5", "64X", "K", "1 K", "0x10", "9" * 20]),
    (UNIT_SIZE, ["0", "1", "2048", "4095", "4097", "6K", "32M", "text"]),
    (VOLUME, ["", "00", "0" * 31, "0" * 33, "0" * 64, "g" * 32]),
    (ADDRESS, ["", "12049", ":12049", "h:", "h:x", "h:-1", "h:65536", "h:²"]),
    (URL, ["", "/a", "http://h:1/", "nfsv://h/", "nfsv://h:0/", "nfsv://h:1/?a", "nfsv://h:1/..", "nfsv://h:1/%"]),
    (TARGET, ["nfsv://h/", "nfsv://h:1/a#b"]),
    (PREFIX, ["h:1", "http://h:1/", "file:a"]),
    (DAY, ["", "tomorrow", "2027-13-01", "2027"]),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BAD for text in texts])
def test_what_is_a_mistake_of_usage(kind: parameters.Parameter, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)
