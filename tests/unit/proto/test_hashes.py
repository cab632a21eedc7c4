# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.errors import RefusedAlgorithm, Unsupported
from nfsverity_proto.hashes import HASH_NAMES, HASH_NUMBERS, digest_length, hash_by_name, hash_by_number
from oracle import merkle

numbers = pytest.mark.parametrize("number", list(merkle.HASHES))


@pytest.mark.spec("fim-hash-1", "fim-hash-2", "fim-tree-1", "fim-tree-2")
@numbers
@given(data=st.binary(max_size=300), other=st.binary(max_size=80))
def test_digests_leaves_and_nodes(number: int, data: bytes, other: bytes) -> None:
    name, digest = merkle.HASHES[number]
    hash = hash_by_number(number)
    assert (hash.number, hash.name, hash.length) == (number, name, len(digest(b"")))
    assert hash_by_name(name) is hash
    for form in (data, bytearray(data), memoryview(data)):
        assert hash.digest(form) == digest(data)
        assert hash.leaf(form) == digest(b"\x00" + data)
    assert hash.node(data, other) == digest(b"\x01" + data + other)


def test_the_known_numbers_are_those_of_the_oracle_and_ascend() -> None:
    assert list(HASH_NUMBERS) == sorted(merkle.HASHES)
    assert list(HASH_NAMES) == [merkle.HASHES[number][0] for number in HASH_NUMBERS]


@pytest.mark.parametrize(
    ("number", "abc"),
    [
        (1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            7,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            8,
            (
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        ),
        (10, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (0x10000, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    ],
)
def test_the_published_digests_of_abc(number: int, abc: str) -> None:
    """FIPS 180-4, FIPS 202, and the BLAKE3 paper's function have these in their examples."""
    assert hash_by_number(number).digest(b"abc").hex() == abc


@pytest.mark.spec("fim-hash-3")
@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_truncated_hashes_are_refused(number: int) -> None:
    with pytest.raises(RefusedAlgorithm):
        hash_by_number(number)
    assert digest_length(number) is None


@given(st.integers(0, 2**32 - 1).filter(lambda number: number not in merkle.HASHES and number not in range(2, 7)))
def test_other_numbers_are_unsupported(number: int) -> None:
    with pytest.raises(Unsupported):
        hash_by_number(number)


@pytest.mark.spec("fim-hash-4")
@numbers
def test_digest_lengths(number: int) -> None:
    assert digest_length(number) == len(merkle.HASHES[number][1](b""))


def test_a_name_that_is_none_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="sha384"):
        hash_by_name("md5")
