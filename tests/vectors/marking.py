# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Record marking: streams of bytes, the messages in them, and where a receiver ends the connection (fip-mark)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oracle.xdr import uint

from .form import Vector

MESSAGE_MAX, FRAGMENTS_MAX = 4_259_840, 64
LAST = 0x80000000


def fragment(data: bytes, last: bool) -> bytes:
    return uint(len(data) | (LAST if last else 0)) + data


def cut(data: bytes, *lengths: int) -> bytes:
    """A message in fragments of these lengths; the last one has what is left."""
    stream, at = b"", 0
    for length in lengths:
        stream += fragment(data[at : at + length], False)
        at += length
    return stream + fragment(data[at:], True)


def build() -> Iterator[Vector]:
    message = bytes(range(40))
    rules = ("fip-mark-1", "fip-mark-2", "fip-mark-3", "fip-rpc-1")

    def good(slug: str, about: str, stream: bytes, messages: Sequence[bytes], clauses: Sequence[str] = rules) -> Vector:
        return Vector(f"stream-{slug}", about, clauses, {"stream": stream}, output={"messages": list(messages)})

    one = good(
        "one", "a message in one fragment", cut(message), [message], (*rules, "fip-mark-4", "fip-mark-6", "fip-mark-8")
    )
    yield one
    yield good("two", "a message in two fragments", cut(message, 20), [message])
    yield good("bytes", "a message in fragments of one byte", cut(message, *[1] * 39), [message])
    yield good("unaligned", "fragments that end within a word", cut(message, 3, 7, 13), [message])
    yield good("one-byte", "a message of one byte", cut(b"\x5a"), [b"\x5a"])
    yield good(
        "three", "three messages", cut(message) + cut(message[::-1], 5) + cut(b"x"), [message, message[::-1], b"x"]
    )
    yield good("nothing", "no bytes at all", b"", [])
    for count in (2, 63, 64):
        yield good(f"fragments-{count}", f"{count} fragments", cut(message * 2, *[1] * (count - 1)), [message * 2])
    yield good(
        "fragments-64-twice",
        "64 fragments, twice: the count begins anew",
        cut(message * 2, *[1] * 63) * 2,
        [message * 2] * 2,
    )
    largest = bytes([0xAB]) * MESSAGE_MAX
    longest = good("longest", "a message of 4,259,840 bytes", cut(largest), [largest], ("fip-mark-1", "fip-mark-5"))
    yield longest
    yield good(
        "longest-cut",
        "a message of 4,259,840 bytes in two fragments",
        cut(largest, 4_259_839),
        [largest],
        ("fip-mark-1", "fip-mark-5"),
    )
    yield good(
        "longest-64",
        "a message of 4,259,840 bytes in 64 fragments",
        cut(largest, *[66_560] * 63),
        [largest],
        ("fip-mark-1", "fip-mark-2"),
    )
    yield good(
        "longest-then-one",
        "after the longest, another: the length begins anew",
        cut(largest) + cut(b"x"),
        [largest, b"x"],
        ("fip-mark-1",),
    )

    def bad(
        base: Vector,
        slug: str,
        about: str,
        stream: bytes,
        messages: Sequence[bytes],
        at: int,
        clauses: Sequence[str],
        latest: int | None = None,
    ) -> Vector:
        output: dict[str, object] = {"messages": list(messages), "at": at}
        if latest is not None:
            output["latest"] = latest
        return base.fault(slug, about, "close", (*clauses, "fip-mark-4"), stream=stream, output=output)

    yield bad(one, "empty-last", "an empty last fragment alone", uint(LAST), [], 4, ("fip-mark-3",))
    yield bad(one, "empty-first", "an empty first fragment", uint(0) + cut(message), [], 4, ("fip-mark-3",))
    yield bad(
        one,
        "empty-middle",
        "an empty fragment inside",
        fragment(message[:20], False) + uint(0) + fragment(message[20:], True),
        [],
        28,
        ("fip-mark-3",),
    )
    yield bad(
        one, "empty-end", "the last fragment is empty", fragment(message, False) + uint(LAST), [], 48, ("fip-mark-3",)
    )
    yield bad(
        one,
        "empty-second",
        "an empty message after a good one",
        cut(message) + uint(LAST),
        [message],
        48,
        ("fip-mark-3",),
    )
    for slug, length in (("longer", MESSAGE_MAX + 1), ("announced-16m", 2**24), ("announced-2g", 2**31 - 1)):
        yield bad(
            one,
            slug,
            f"a fragment that announces {length} bytes",
            uint(LAST | length),
            [],
            4,
            ("fip-mark-1", "fip-mark-5"),
        )
        yield bad(
            one,
            f"{slug}-not-last",
            f"a fragment, not the last, that announces {length} bytes",
            uint(length) + message,
            [],
            4,
            ("fip-mark-1", "fip-mark-5"),
        )
    yield bad(
        longest,
        "byte-more",
        "the longest and a byte more, in a second fragment",
        fragment(largest, False) + fragment(b"x", True),
        [],
        4 + MESSAGE_MAX + 4,
        ("fip-mark-1", "fip-mark-5"),
    )
    yield bad(
        one,
        "sum",
        "a second fragment that would make the message too long",
        fragment(message, False) + uint(LAST | MESSAGE_MAX - 39),
        [],
        48,
        ("fip-mark-1", "fip-mark-5"),
    )
    yield bad(
        one,
        "sum-wraps",
        "a second fragment whose length overflows with the first",
        fragment(message, False) + uint(LAST | 0x7FFFFFFF),
        [],
        48,
        ("fip-mark-1", "fip-mark-5"),
    )
    ones = b"".join(fragment(b"x", False) for _ in range(64))
    yield bad(
        one, "fragments-65", "65 fragments", ones + fragment(b"x", True), [], 63 * 5 + 4, ("fip-mark-2",), 64 * 5 + 4
    )
    yield bad(
        one,
        "fragments-66",
        "66 fragments",
        ones + fragment(b"x", False) + fragment(b"x", True),
        [],
        63 * 5 + 4,
        ("fip-mark-2",),
        64 * 5 + 4,
    )
    yield bad(
        one,
        "fragments-65-after",
        "a good message, then one of 65 fragments",
        cut(message) + ones + fragment(b"x", True),
        [message],
        44 + 63 * 5 + 4,
        ("fip-mark-2",),
        44 + 64 * 5 + 4,
    )
    for slug, about, stream, messages in (
        ("in-mark", "the connection ends within a mark", cut(message) + uint(LAST | 40)[:3], [message]),
        ("in-fragment", "the connection ends within a fragment", cut(message)[:-1], []),
        ("before-fragment", "the connection ends after a mark", cut(message) + uint(LAST | 40), [message]),
        ("between-fragments", "the connection ends before the last fragment", fragment(message, False), []),
        (
            "whole-not-last",
            "all bytes of the message have come, and the last fragment has not",
            fragment(message[:20], False) + fragment(message[20:], False),
            [],
        ),
    ):
        yield one.fault(slug, about, "incomplete", ("fip-mark-8",), stream=stream, output={"messages": messages})
