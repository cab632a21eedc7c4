# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity.diff` and `nfsverity.diff_trees`."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nfsverity
from nfsverity import Incomparable, Range
from nfsverity_client.diff import Side
from serving import keys, publish_tree, serving

UNIT = 4096
OLD = random.Random(1).randbytes(700 * UNIT + 5)


def changed(*units: int) -> bytes:
    data = bytearray(OLD)
    for unit in units:
        data[unit * UNIT] ^= 1
    return bytes(data)


def test_ranges_of_two_files(tmp_path: Path) -> None:
    old = publish_tree(tmp_path / "old", {"file": OLD, "d/e": b"e"}, unit_size=UNIT)
    new = publish_tree(tmp_path / "new", {"file": changed(0, 1, 300, 700), "d/f": b"f"}, unit_size=UNIT)
    expected = [Range(0, 2 * UNIT), Range(300 * UNIT, UNIT), Range(700 * UNIT, 5)]
    with serving(old.root) as one, serving(new.root) as other:
        trust = [keys().pin]
        assert list(nfsverity.diff(one.url + "file", other.url + "file", trust=trust)) == expected
        assert list(nfsverity.diff(old.root / "file", other.url + "file", trust=trust)) == expected
        first = nfsverity.diff(one.url + "file", new.root / "file", trust=trust)
        assert next(first) == expected[0]
        del first  # given up half-way
        found = {file.path: file for file in nfsverity.diff_trees(old.root, other.url, ranges=True, trust=trust)}
        assert {path: str(file.state) for path, file in found.items()} == {
            b"file": "changed", b"d/e": "removed", b"d/f": "added"
        }  # fmt: skip
        assert found[b"file"].ranges == tuple(expected)
        assert found[b"d/e"].a is not None
        assert found[b"d/e"].b is None
        with pytest.raises(nfsverity.StatusError):
            list(nfsverity.diff(one.url + "none", new.root / "file", trust=trust))
        with pytest.raises(nfsverity.VerificationError):
            list(nfsverity.diff(one.url + "file", new.root / "file", trust=[]))


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    old = publish_tree(tmp_path / "old", {"file": OLD}, unit_size=UNIT)
    new = publish_tree(tmp_path / "new", {"file": OLD}, unit_size=UNIT, hash="sha512")
    with pytest.raises(Incomparable, match="different hashes, sha256 and sha512"):
        list(nfsverity.diff(old.root / "file", new.root / "file", trust=[keys().pin]))
    (file,) = nfsverity.diff_trees(old.root, new.root, trust=[keys().pin])
    assert file.state == "incomparable"


UNITS = st.lists(st.sampled_from([b"a", b"b", b"\0"]), max_size=40)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=UNITS, other=UNITS, ends=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_any_two_files(
    tmp_path_factory: pytest.TempPathFactory, one: list[bytes], other: list[bytes], ends: tuple[int, int]
) -> None:
    """Against the bytes themselves."""
    a, b = (b"".join(unit * UNIT for unit in units) + b"x" * end for units, end in zip((one, other), ends, strict=True))
    directory = tmp_path_factory.mktemp("any")
    roots = [publish_tree(directory / name, {"f": data}, unit_size=UNIT).root for name, data in (("a", a), ("b", b))]
    found = list(nfsverity.diff(roots[0] / "f", roots[1] / "f", trust=[keys().pin]))
    common, longest = sorted((len(a), len(b)))
    both = {at for part in found if part.side is Side.BOTH for at in range(part.offset, part.stop)}
    assert all(a[at] == b[at] for at in range(common) if at not in both)
    for part in found:
        if part.side is Side.BOTH:
            for start in range(part.offset, part.stop, UNIT):
                assert a[start : start + UNIT] != b[start : start + UNIT], "each unit of a range differs"
    rest = [part for part in found if part.side is not Side.BOTH]
    side = Side.A if len(a) == longest else Side.B
    assert rest == ([Range(common, longest - common, side)] if common < longest else [])
    assert os.path.exists(roots[0])
