# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the cache still has of a file when the volume that it is in has another head."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
KEPT = random.Random(6).randbytes(8 * MIB)
CHANGED = random.Random(7).randbytes(8 * MIB)
RANGE = ("--offset", "4M", "--length", "100000")


def hashes(nfsverity: Any, url: str, expected: bytes) -> tuple[int, int]:
    """How many a range of the file took, and the generation of the head that vouched for it."""
    result = nfsverity("cat", *RANGE, url, "--json")
    assert result.out == expected[4 * MIB :][:100000]
    report = json.loads(result.err[result.err.index("{") :])
    return report["hashes"], int(report["generation"])


@pytest.mark.spec("fim-cache-3")
def test_what_is_unchanged_under_a_new_head_stays_cached(
    nfsverity: Any, alice: Any, serve: Any, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept").write_bytes(KEPT)
    (tree / "changed").write_bytes(KEPT[::-1])
    nfsverity("sign", *alice.options, tree)
    nfsverity("trust", "add", alice.certificate)
    url = str(serve(tree).url)
    first, before = hashes(nfsverity, url + "/kept", KEPT)
    assert first > 0
    assert hashes(nfsverity, url + "/changed", KEPT[::-1])[0] > 0
    assert hashes(nfsverity, url + "/changed", KEPT[::-1])[0] == 0

    (tree / "changed").write_bytes(CHANGED)
    nfsverity("sign", *alice.options, tree)
    again, after = hashes(nfsverity, url + "/kept", KEPT)
    assert after > before, "another head"
    assert again == 0
    assert hashes(nfsverity, url + "/changed", CHANGED)[0] > 0, "of another root, nothing is known"
