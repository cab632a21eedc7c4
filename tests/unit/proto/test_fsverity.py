# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Tree type 2, against `fsverity digest` as a black box."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.fsverity import BlockTree
from nfsverity_proto.hashes import hash_by_name
from nfsverity_proto.tree import Shape

UNIT = 4096
SIZES = (0, 1, UNIT - 1, UNIT, UNIT + 1, 127 * UNIT, 128 * UNIT, 128 * UNIT + 1, 129 * UNIT, 200_000, 3_000_000)


def content(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(4099)) * (size // 4099 + 1)


def tree_over(data: bytes, name: str, unit_log2: int = 12) -> tuple[BlockTree, list[bytes]]:
    tree = BlockTree(hash_by_name(name), Shape(len(data), unit_log2))
    unit = 1 << unit_log2
    return tree, [tree.leaf(data[i : i + unit]) for i in range(0, len(data), unit)]


@pytest.mark.tool("fsverity")
@pytest.mark.parametrize("name", ["sha256", "sha512"])
@pytest.mark.parametrize("unit_log2", [12, 16])
def test_the_digest_is_that_of_the_fsverity_command(name: str, unit_log2: int, tmp_path: Path) -> None:
    for size in SIZES:
        path = tmp_path / f"{size}"
        path.write_bytes(data := content(size)[:size])
        printed = subprocess.run(
            ["fsverity", "digest", f"--hash-alg={name}", f"--block-size={1 << unit_log2}", "--compact", path],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        tree, leaves = tree_over(data, name, unit_log2)
        assert tree.digest(tree.root(leaves)).hex() == printed.split()[0]


@given(st.integers(1, 300), st.data())
def test_every_range_folds_with_its_proof_to_the_root_and_with_no_other(units: int, data: st.DataObject) -> None:
    tree, leaves = tree_over(content(units * UNIT)[: units * UNIT - 7], "sha512")
    levels = tree.levels(leaves)
    first = data.draw(st.integers(0, units - 1))
    end = data.draw(st.integers(first + 1, units))
    proof = tree.prove(lambda level, index: levels[level][index], first, end)
    assert tree.fold(first, leaves[first:end], proof) == levels[-1][0]
    with pytest.raises(ValueError, match="too long"):
        tree.fold(first, leaves[first:end], [*proof, bytes(64)])
    if proof:
        with pytest.raises(ValueError, match="too short"):
            tree.fold(first, leaves[first:end], proof[:-1])
        altered = data.draw(st.integers(0, len(proof) - 1))
        changed = [bytes([hash[0] ^ 1]) + hash[1:] if i == altered else hash for i, hash in enumerate(proof)]
        assert tree.fold(first, leaves[first:end], changed) != levels[-1][0]


def test_a_range_that_is_empty_or_beyond_the_file_is_misuse() -> None:
    tree, leaves = tree_over(content(3 * UNIT)[: 3 * UNIT], "sha256")
    for first, end in ((1, 1), (2, 4), (-1, 1)):
        with pytest.raises(ValueError, match="units"):
            tree.prove(lambda level, index: leaves[index], first, end)


def test_it_is_defined_for_two_hashes_only() -> None:
    with pytest.raises(ValueError, match="blake3"):
        tree_over(b"", "blake3")
