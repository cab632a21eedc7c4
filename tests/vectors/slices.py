# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Slices and holes (fip-slice, fip-hole)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .form import Long, Vector

LARGEST = 2**63 - 1


def build() -> Iterator[Vector]:
    for unit_log2 in (12, 13, 16, 21, 22, 23, 24):
        unit = 1 << unit_log2
        slice = min(unit, 1 << 22)
        for size in sorted({0, 1, slice - 1, slice, slice + 1, unit, unit + 1, 3 * unit - 1, 5 * slice, LARGEST}):
            k, rest = unit // slice, size % slice
            slices = size // slice + (1 if rest else 0)
            yield Vector(
                f"slices-{unit_log2}-{size}", f"{size} bytes in units of 2^{unit_log2}", ("fip-slice-1",),
                {"of": "count", "unit_log2": unit_log2, "size": Long(size)},
                output={"slice": slice, "per_unit": k, "slices": Long(slices)},
            )  # fmt: skip
            if slices:
                yield from _ranges(unit_log2, size, slice, slices)
    yield from _holes()


def _ranges(unit_log2: int, size: int, slice: int, slices: int) -> Iterator[Vector]:
    k = (1 << unit_log2) // slice

    def vector(first: int, count: int) -> Vector:
        return Vector(
            f"range-{unit_log2}-{size}-{first}-{count}",
            f"slices [{first}, {first + count}) of {slices}",
            ("fip-slice-1", "fip-slice-2", "fip-read-2", "fip-read-6"),
            {"of": "range", "unit_log2": unit_log2, "size": Long(size), "first": Long(first), "count": Long(count)},
            output={
                "units": {"first": Long(first // k), "end": Long((first + count - 1) // k + 1)},
                "bytes": {"start": Long(first * slice), "stop": Long(min((first + count) * slice, size))},
            },
        )

    wanted = {
        (0, 1),
        (slices - 1, 1),
        (0, min(slices, 2)),
        (0, slices),
        (slices // 2, 1),
        (max(slices - 3, 0), min(slices, 3)),
    }
    for first, count in sorted(wanted):
        yield vector(first, count)
    if size in (5 * slice, LARGEST, 1):
        base = vector(0, slices)
        for slug, first, count in (
            ("none", 0, 0),
            ("beyond", 0, slices + 1),
            ("later", 1, slices),
            ("after", slices, 1),
            ("last", 2**64 - 1, 1),
            ("wraps", 2**64 - 1, 2),
            ("half", 2**63, 2**63),
        ):
            yield base.fault(
                slug,
                f"slices [{first}, {first} + {count})",
                "invalid",
                ("fip-slice-1", "fip-read-2"),
                first=Long(first),
                count=Long(count),
            )


Hole = tuple[int, int]


def _holes() -> Iterator[Vector]:
    """A reply to READ for 8 slices of 4,096 bytes; the last slice of the file has 1,000."""
    size, count = 7 * 4096 + 1000, 8

    def length(holes: Sequence[Hole]) -> int:
        return size - sum(min((first + many) * 4096, size) - first * 4096 for first, many in holes)

    def given(holes: Sequence[Hole], data: int) -> dict[str, Any]:
        return {
            "of": "holes", "unit_log2": 12, "size": Long(size), "first": Long(0), "count": Long(count),
            "holes": [{"first": first, "count": many} for first, many in holes], "data": data,
        }  # fmt: skip

    def good(slug: str, about: str, holes: Sequence[Hole]) -> Vector:
        return Vector(
            f"holes-{slug}",
            about,
            ("fip-hole-1", "fip-hole-2", "fip-hole-3", "fip-read-1", "fip-read-8"),
            given(holes, length(holes)),
        )

    base = good("two", "two holes", [(1, 2), (5, 1)])
    yield from (
        base,
        good("none", "no hole", []),
        good("first", "the first slice", [(0, 1)]),
        good("last", "the last slice, which is short", [(7, 1)]),
        good("all", "all slices", [(0, 8)]),
        good("all-singly", "all slices, one hole each", [(n, 1) for n in range(8)]),
        good("touching", "two holes that touch", [(2, 2), (4, 1)]),
        good("every-other", "every other slice", [(0, 1), (2, 1), (4, 1), (6, 1)]),
    )

    def bad(
        slug: str,
        about: str,
        holes: Sequence[Hole],
        clauses: Sequence[str] = ("fip-hole-1", "fip-read-8"),
        data: int | None = None,
    ) -> Vector:
        changed = given(holes, base.input["data"] if data is None else data)
        return base.fault(slug, about, "malformed", clauses, **changed)

    yield bad("empty", "a hole of no slices", [(1, 2), (3, 0), (5, 1)])
    yield bad("empty-alone", "a hole of no slices alone", [(0, 0)], data=size)
    yield bad("falling", "holes that fall", [(5, 1), (1, 2)])
    yield bad("overlap", "holes that overlap", [(1, 2), (2, 1)], data=size - 3 * 4096)
    yield bad("same", "the same hole twice", [(1, 2), (1, 2)], data=size - 4 * 4096)
    yield bad("beyond", "a hole that ends after the range", [(1, 2), (7, 2)], data=size - 2 * 4096 - 1000)
    yield bad("after", "a hole after the range", [(1, 2), (8, 1)], data=size - 2 * 4096)
    yield bad("wraps", "a hole whose end overflows 32 bits", [(1, 2), (5, 2**32 - 1)], data=size - 2 * 4096)
    yield bad("far", "a hole at 2^32 - 1", [(2**32 - 1, 1)], data=size)
    for slug, more in (("byte-more", 1), ("byte-less", -1), ("slice-more", 4096), ("slice-less", -4096)):
        yield bad(
            f"data-{slug}",
            f"data of {more:+} bytes",
            [(1, 2), (5, 1)],
            ("fip-hole-2", "fip-read-8", "fip-read-1"),
            base.input["data"] + more,
        )
    yield bad(
        "data-of-hole", "the bytes of the holes are in the data", [(1, 2), (5, 1)], ("fip-hole-2", "fip-read-8"), size
    )
    short = good("short", "a hole over the short slice", [(6, 2)])
    yield short
    yield short.fault(
        "padded",
        "as if the short slice were whole",
        "malformed",
        ("fip-hole-2", "fip-read-8"),
        data=short.input["data"] - 4096 + 1000,
    )
