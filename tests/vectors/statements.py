# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Statements, decoded alone: each field at its bounds, and beyond (fim-dec, fim-st, fim-path, fim-kind, fim-ext)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from oracle import records
from oracle.xdr import uint

from .form import Vector
from .sample import fields, head, revocation, root_of, statement
from .trees import HASHES

DEC = ("fim-dec-1",)
I64 = (-(2**63), 2**63 - 1)


def build() -> Iterator[Vector]:
    yield from _fields()
    yield from _contents()
    yield from _revocations()
    yield from _heads()
    yield from _structure()


def good(id: str, about: str, of: records.Statement, clauses: Sequence[str] = DEC) -> Vector:
    data = of.encode()
    output = {"statement": fields(of)}
    if of.hash in HASHES:
        output["tag"] = {"hash": of.hash, "digest": HASHES[of.hash](data)}
        clauses = (*clauses, "fim-tag-1")
    flags = [] if of.hash in HASHES else ["unknown-hash"]
    return Vector(f"statement-{id}", about, clauses, {"wanted": of.kind, "bytes": data}, output=output, flags=flags)


def _fields() -> Iterator[Vector]:
    base = good(
        "example", "the statement of the worked example", statement(), (*DEC, "fim-kind-2", "fim-dec-5", "fim-fmt-2")
    )
    yield base

    def ok(name: str, value: Any, clauses: Sequence[str] = DEC, slug: str | None = None, **more: Any) -> Vector:
        return good(
            f"{name}-{slug or value}".replace("_", "-"),
            f"{name} of {slug or value}",
            statement(**{name: value}, **more),
            clauses,
        )

    def bad(
        name: str, slug: str, about: str, clauses: Sequence[str] = DEC, outcome: str = "malformed", **changed: Any
    ) -> Vector:
        return base.fault(
            f"{name}-{slug}".replace("_", "-"), about, outcome, clauses, bytes=statement(**changed).encode()
        )

    for magic in (0, 0x4E465357, 0x5653464E, 0x4E465356 ^ 0x80000000, 2**32 - 1):
        yield bad("magic", f"{magic:08x}", f"magic {magic:#010x}", ("fim-dec-1", "fim-dec-5"), magic=magic)
    for format in (0, 2, 3, 256, 2**32 - 1):
        yield bad("format", str(format), f"format {format}", ("fim-dec-5", "fim-fmt-2"), "unsupported", format=format)
    for kind in (0, 5, 256, 2**31, 2**32 - 1):
        yield bad("kind", str(kind), f"kind {kind}", ("fim-dec-1", "fim-dec-5"), kind=kind)
    for kind in (1, 3, 4):
        yield bad(
            "kind",
            str(kind),
            f"kind {kind}, and the rest as it was",
            ("fim-kind-1", "fim-kind-2"),
            "wrong-kind",
            kind=kind,
        )

    for number, digest in HASHES.items():
        if number != 1:
            yield ok("hash", number, ("fim-dec-1", "fim-hash-2"), root=root_of(number))
            for length in sorted({32, 48, 64} - {len(digest(b""))}):
                yield good_then_bad_root(number, length)
    for number in (0, 9, 13, 63, 64, 65535, 65537, 2**32 - 1):
        yield ok("hash", number, root=b"\1" * 32)
    for number in (2, 3, 4, 5, 6):
        yield ok("hash", number, root=b"\1" * 8)
    for length in (0, 1, 20, 64):
        yield ok("hash", 0, slug=f"0-root-{length}", root=b"\1" * length)
    for number, length in ((11, 48), (12, 64)):
        vector = ok("hash", number, root=b"\1" * length)
        yield vector
        for other in sorted({32, 48, 64} - {length}):
            yield vector.fault(
                f"root-{other}",
                f"a root of {other} bytes",
                "malformed",
                DEC,
                bytes=statement(hash=number, root=b"\1" * other).encode(),
            )
    for length in (0, 1, 31, 33, 63, 64):
        yield bad("root", str(length), f"a root of {length} bytes under SHA-256", root=b"\1" * length)
    yield bad("root", "65", "a root of 65 bytes", ("fim-dec-1", "fim-dec-3"), root=b"\1" * 65)

    for slug, volume in (("zeros", bytes(16)), ("ones", b"\xff" * 16)):
        yield ok("volume", volume, slug=slug)

    names: list[tuple[str, bytes]] = [
        ("1", b"x"),
        ("2", b"ab"),
        ("3", b"abc"),
        ("4", b"abcd"),
        ("255", b"n" * 255),
        ("three-dots", b"..."),
        ("dot-x", b".x"),
        ("x-dot", b"x."),
        ("space", b" "),
        ("backslash", b"\\"),
        ("ff", b"\xff"),
        ("01", b"\x01"),
        ("not-utf-8", b"\xc3\x28"),
        ("utf-8", "größe".encode()),
        ("combining", "gro\u0308ße".encode()),
        ("newline", b"a\nb"),
    ]
    for slug, name in names:
        clauses = ("fim-path-2", "fim-path-7") if slug in ("ff", "not-utf-8") else ("fim-path-2",)
        yield ok("label", name, (*clauses, "fim-path-8"), slug)
        yield ok("path", name, (*clauses, "fim-path-3", "fim-path-4"), slug)
    not_names: list[tuple[str, bytes]] = [
        ("empty", b""),
        ("dot", b"."),
        ("dot-dot", b".."),
        ("nul", b"\0"),
        ("nul-end", b"abc\0"),
        ("nul-inside", b"a\0b"),
        ("256", b"n" * 256),
    ]
    for slug, name in (*not_names, ("slash", b"/"), ("slash-inside", b"a/b"), ("slash-end", b"a/")):
        yield bad(
            "label", slug, f"a label that is not a name: {slug}", ("fim-path-2", "fim-path-8", "fim-dec-1"), label=name
        )
    paths: list[tuple[str, bytes]] = [
        ("deep-256", b"/".join([b"d"] * 256)), ("4095", b"/".join([b"p" * 255] * 15 + [b"q" * 127, b"r" * 127])),
        ("names-255", b"/".join([b"n" * 255] * 2)), ("dots", b"a/.../.b"), ("case", b"A/a"),
    ]  # fmt: skip
    for slug, path in paths:
        yield ok("path", path, ("fim-path-2", "fim-path-3"), slug)
    not_paths: list[tuple[str, bytes]] = [
        ("slash", b"/"),
        ("slash-start", b"/a"),
        ("slash-end", b"a/"),
        ("slashes", b"a//b"),
        ("dot-first", b"./a"),
        ("dot-last", b"a/."),
        ("dot-dot-first", b"../a"),
        ("dot-dot-inside", b"a/../b"),
        ("dot-dot-last", b"a/.."),
        ("nul-name", b"a/\0/b"),
        ("name-256", b"a/" + b"n" * 256),
        ("deep-257", b"/".join([b"d"] * 257)),
        ("4096", b"/".join([b"p" * 255] * 15 + [b"q" * 127, b"r" * 128])),
        ("all-slashes", b"/" * 300),
    ]
    for slug, path in (*not_names, *not_paths):
        clauses = ("fim-path-4",) if slug == "empty" else ("fim-path-2", "fim-path-3")
        yield bad("path", slug, f"no path of a file: {slug}", (*clauses, "fim-dec-1"), path=path)

    for generation in (0, 1, 2**32, 2**63, 2**64 - 2):
        yield ok("generation", generation, ("fim-gen-3",))
    yield bad("generation", "max", "generation 2^64 - 1", ("fim-gen-3", "fim-dec-1"), generation=2**64 - 1)
    for field in ("issued", "not_after", "seconds"):
        for number in (*I64, -1, 0):
            yield ok(field, number, ("fim-dec-1",))
    for number in (0, 1, 999_999_999):
        yield ok("nseconds", number)
    for number in (1_000_000_000, 2**31, 2**32 - 1):
        yield bad("nseconds", str(number), f"{number} nanoseconds", nseconds=number)
    yield ok("executable", 1)
    for number in (2, 256, 2**31, 2**32 - 1):
        yield bad("executable", str(number), f"a bool of {number}", executable=number)
    for number in (0, 2, 3, 2**32 - 1):
        yield ok("tree_type", number, ("fim-dec-1",))
    for number in range(12, 25):
        if number != 12:
            yield ok("unit_log2", number, ("fim-dec-1", "fim-unit-2"))
    for number in (0, 1, 11, 25, 32, 64, 2**32 - 1):
        yield bad("unit_log2", str(number), f"units of 2^{number}", unit_log2=number)
    for number in (0, 1, 4096, 2**32, 2**63 - 1):
        yield ok("size", number)
    for number in (2**63, 2**64 - 1):
        yield bad("size", str(number), f"a size of {number}", size=number)

    def extensions(slug: str, items: Sequence[tuple[int, int, bytes]], about: str) -> Vector:
        return good(f"extensions-{slug}", about, statement(extensions=items), ("fim-dec-1", "fim-ext-1"))

    yield extensions("one", [(0, 0, b"")], "one extension")
    yield extensions("last", [(2**32 - 1, 1, b"x")], "the highest number, critical")
    yield extensions("1024", [(7, 0, b"\5" * 1024)], "a value of 1,024 bytes")
    yield extensions("16", [(n, n % 2, bytes([n])) for n in range(16)], "16 extensions")
    for slug, about, clauses, items in (
        ("twice", "one number twice", ("fim-ext-1",), [(5, 0, b"a"), (5, 0, b"b")]),
        ("same", "the same extension twice", ("fim-ext-1",), [(5, 0, b"a"), (5, 0, b"a")]),
        ("falling", "numbers that fall", ("fim-ext-1",), [(5, 0, b""), (4, 0, b"")]),
        ("third", "only the third out of order", ("fim-ext-1",), [(1, 0, b""), (9, 0, b""), (8, 0, b"")]),
        ("17", "17 extensions", ("fim-dec-1", "fim-dec-3"), [(n, 0, b"") for n in range(17)]),
        ("1025", "a value of 1,025 bytes", ("fim-dec-1", "fim-dec-3"), [(7, 0, b"\5" * 1025)]),
        ("bool-2", "critical is 2", DEC, [(7, 2, b"")]),
        ("bool-max", "critical is 2^32 - 1", DEC, [(7, 2**32 - 1, b"")]),
    ):  # fmt: skip
        yield bad("extensions", slug, about, clauses, extensions=items)


def good_then_bad_root(number: int, length: int) -> Vector:
    base = good(f"hash-{number}", "", statement(hash=number, root=root_of(number)))
    return base.fault(
        f"root-{length}",
        f"a root of {length} bytes",
        "malformed",
        DEC,
        bytes=statement(hash=number, root=b"\1" * length).encode(),
    )


def _contents() -> Iterator[Vector]:
    """Kind content: no structure of it is verified alone, but it is decoded."""
    base = good("content", "a statement of kind content", statement(kind=records.CONTENT), ("fim-dec-1", "fim-kind-1"))
    yield base
    yield base.fault("as-file", "where a file is wanted", "wrong-kind", ("fim-kind-1",), wanted=records.FILE)
    yield base.fault("kind-3", "of kind volume", "wrong-kind", ("fim-kind-2",), bytes=statement(kind=3).encode())
    yield base.fault(
        "kind-2",
        "of kind file, without the rest of one",
        "wrong-kind",
        ("fim-kind-1", "fim-kind-2"),
        bytes=base.input["bytes"][:12] + uint(2) + base.input["bytes"][16:],
    )
    yield base.fault(
        "nseconds", "10^9 nanoseconds", "malformed", DEC, bytes=statement(kind=records.CONTENT, nseconds=10**9).encode()
    )
    yield base.fault("cut", "cut by four bytes", "malformed", DEC, bytes=base.input["bytes"][:-4])


def _revocations() -> Iterator[Vector]:
    """Kind revocation: its form. Whether what an item names is known is judged later."""
    rule = ("fim-rev-2", "fim-dec-1")
    lengths = {number: len(digest(b"")) for number, digest in HASHES.items()}

    def of(slug: str, about: str, items: Sequence[tuple[int, int, bytes]], **changed: Any) -> Vector:
        return good(f"revocation-{slug}", about, revocation(items=items, **changed), (*rule, "fim-kind-3"))

    key, version = (records.PUBLIC_KEY, 1, b"\1" * 32), (records.VERSION, 1, b"\2" * 32)
    empty = good("revocation", "a revocation without items", revocation(), (*rule, "fim-kind-3", "fim-kind-2"))
    yield empty
    two = of("two", "of a key and a version", [key, version])
    yield two
    for number, length in lengths.items():
        yield of(f"hash-{number}", f"under hash {number}", [(records.PUBLIC_KEY, number, b"\3" * length)])
    for length in (0, 1, 32, 64):
        yield of(f"unknown-{length}", f"under hash 99, of {length} bytes", [(records.VERSION, 99, b"\4" * length)])
    for what in (0, 3, 2**32 - 1):
        yield of(f"what-{what}", f"of what has number {what}", [(what, 1, b"\5" * 32)])
    yield of("prefix", "a digest and a longer one that begins with it", [(2, 99, b"a"), (2, 99, b"ab")])
    yield of(
        "first-bytes", "digests in the order of their bytes, whatever their lengths", [(2, 99, b"ab"), (2, 99, b"b")]
    )
    yield of("by-what", "what comes before hash and digest", [(1, 99, b"z"), (2, 1, b"\0" * 32)])
    yield of("by-hash", "hash comes before digest", [(2, 1, b"\xff" * 32), (2, 99, b"a")])
    yield of("high", "numbers above 2^31 are above those below", [(1, 99, b""), (2**31, 99, b"")])
    full = of("128", "128 items", [(2, 1, bytes([n]) * 32) for n in range(128)])
    yield full
    longest = [(2, 99, bytes([n]) * 48) for n in range(128)]
    yield of("longest", "128 items of 48 bytes, and the longest label", longest, label=b"l" * 255)

    def bad(
        base: Vector, slug: str, about: str, items: Sequence[tuple[int, int, bytes]], clauses: Sequence[str] = rule
    ) -> Vector:
        return base.fault(slug, about, "malformed", clauses, bytes=revocation(items=items).encode())

    for slug, about, items in (
        ("twice", "the same item twice", [key, key]),
        ("falling-what", "a version before a key", [version, key]),
        ("falling-hash", "hashes that fall", [(1, 8, bytes(64)), (1, 1, bytes(32))]),
        ("falling-digest", "digests that fall", [(1, 1, b"\2" * 32), key]),
        ("falling-prefix", "a digest after a longer one that begins with it", [(2, 99, b"ab"), (2, 99, b"a")]),
        ("falling-high", "a number above 2^31 before one below", [(2**31, 99, b""), (1, 99, b"")]),
        ("third", "only the third out of order", [key, version, (1, 1, b"\6" * 32)]),
    ):
        yield bad(two, slug, about, items)
    for number, length in lengths.items():
        for other in sorted({0, 32, 48, 64} - {length}):
            about = f"a digest of {other} bytes under hash {number}"
            yield bad(two, f"hash-{number}-{other}", about, [(2, number, bytes(other))], DEC)
    yield bad(two, "unknown-65", "a digest of 65 bytes", [(2, 99, bytes(65))], ("fim-dec-1", "fim-dec-3"))
    many = [(2, 1, n.to_bytes(32)) for n in range(129)]
    yield bad(full, "129", "129 items", many, ("fim-dec-1", "fim-dec-3"))
    wide = [(2, 8, bytes([n]) * 64) for n in range(128)]
    yield bad(full, "wide", "128 items of 64 bytes, longer than a statement may be", wide, ("fim-dec-1", "fim-dec-3"))
    data = empty.input["bytes"]
    for slug, count in (("1", 1), ("129", 129), ("max", 2**32 - 1)):
        changed = data[:-8] + uint(count) + data[-4:]
        about = f"{count} items announced, none there"
        yield empty.fault(f"announces-{slug}", about, "malformed", ("fim-dec-1", "fim-dec-3"), bytes=changed)
    yield empty.fault("cut", "cut by four bytes", "malformed", DEC, bytes=data[:-4])
    yield empty.fault("longer", "with four bytes more", "malformed", DEC, bytes=data + bytes(4))
    for slug, about, fields_ in (
        ("label", "a label that is not a name", {"label": b"a/b"}),
        ("generation", "generation 2^64 - 1", {"generation": 2**64 - 1}),
    ):
        yield empty.fault(slug, about, "malformed", DEC, bytes=revocation(**fields_).encode())
    odd = of("odd", "a digest that is padded", [(2, 99, b"abc")])
    yield odd
    padded = odd.input["bytes"].replace(b"abc\0", b"abc\1")
    yield odd.fault("padding", "its padding is not zero", "malformed", DEC, bytes=padded)
    for kind, name in ((records.FILE, "file"), (records.CONTENT, "content")):
        clauses = ("fim-kind-1", "fim-kind-2")
        yield empty.fault(f"as-{name}", f"where one of kind {name} is wanted", "wrong-kind", clauses, wanted=kind)
        yield empty.fault(
            name, f"one of kind {name} instead", "wrong-kind", ("fim-kind-3", "fim-kind-2"),
            bytes=statement(kind=kind).encode(),
        )  # fmt: skip
    yield empty.fault(
        "kind-3", "one of kind volume instead", "wrong-kind", ("fim-kind-3", "fim-kind-2"),
        bytes=data[:12] + uint(3) + data[16:],
    )  # fmt: skip


def _heads() -> Iterator[Vector]:
    """Kind volume: its form."""
    rule = ("fim-kind-4", "fim-dec-1")
    base = good("head", "a head", head(), (*rule, "fim-kind-2"))
    yield base
    for slug, about, changed in (
        ("empty", "of a volume without entries", {"entries": 0, "root": HASHES[1](b"")}),
        ("most", "with 2^63 - 1 entries", {"entries": 2**63 - 1}),
        ("sha512", "under SHA-512", {"hash": 8, "root": bytes(64)}),
        ("unknown-hash", "under a hash that nobody knows", {"hash": 99, "root": b"root"}),
        ("label", "with the longest label", {"label": b"l" * 255}),
        ("generation", "with the greatest generation", {"generation": 2**64 - 2}),
    ):
        yield good(f"head-{slug}", f"a head {about}", head(**changed), rule)
    for slug, about, changed in (
        ("entries", "2^63 entries", {"entries": 2**63}),
        ("root", "a root of 31 bytes", {"root": bytes(31)}),
        ("root-none", "no root", {"root": b""}),
        ("hash", "a root of another hash", {"hash": 8}),
        ("label", "a label that is not a name", {"label": b"a/b"}),
        ("generation", "generation 2^64 - 1", {"generation": 2**64 - 1}),
    ):
        yield base.fault(slug, about, "malformed", ("fim-dec-1",), bytes=head(**changed).encode())
    data = base.input["bytes"]
    yield base.fault("cut", "cut by four bytes", "malformed", DEC, bytes=data[:-4])
    yield base.fault("longer", "with four bytes more", "malformed", DEC, bytes=data + bytes(4))
    for kind, name in ((records.FILE, "file"), (records.CONTENT, "content"), (records.REVOCATION, "revocation")):
        clauses = ("fim-kind-4", "fim-kind-2")
        yield base.fault(
            name, f"one of kind {name} instead", "wrong-kind", clauses, bytes=statement(kind=kind).encode()
        )
        yield base.fault(
            f"as-{name}", f"where one of kind {name} is wanted", "wrong-kind", ("fim-kind-2",), wanted=kind
        )


def _structure() -> Iterator[Vector]:
    base = good("whole", "the worked example once more, for faults of its bytes", statement(label=b"examples"), DEC)
    yield base
    data = base.input["bytes"]
    for length in (0, 1, 3, 4, 8, 12, 15):
        yield base.fault(
            f"cut-to-{length}",
            f"the first {length} bytes",
            "malformed",
            ("fim-dec-1", "fim-dec-3"),
            bytes=data[:length],
        )
    for length in (16, 17, 31, 32, 48, 100, len(data) - 4, len(data) - 1):
        yield base.fault(
            f"cut-to-{length}",
            f"the first {length} bytes",
            "malformed",
            ("fim-dec-1", "fim-dec-3"),
            bytes=data[:length],
        )
    for extra, slug in ((b"\0", "zero"), (b"\1", "one"), (bytes(4), "word"), (data, "itself")):
        yield base.fault(f"then-{slug}", f"{len(extra)} more bytes", "malformed", DEC, bytes=data + extra)
    label_at = 16 + 16
    for slug, length in (
        ("long", 256),
        ("longest", 2**32 - 1),
        ("sign", 2**31),
        ("minus", 2**32 - 4),
        ("one-more", 9),
        ("one-less", 7),
    ):
        changed = data[:label_at] + uint(length) + data[label_at + 4 :]
        yield base.fault(
            f"label-length-{slug}",
            f"a label that announces {length} bytes",
            "malformed",
            ("fim-dec-1", "fim-dec-3"),
            bytes=changed,
        )
    for slug, length in (("path", 4096), ("path-max", 2**32 - 1)):
        at = label_at + 12
        changed = data[:at] + uint(length) + data[at + 4 :]
        yield base.fault(
            f"{slug}-length",
            f"a path that announces {length} bytes",
            "malformed",
            ("fim-dec-1", "fim-dec-3"),
            bytes=changed,
        )
    for slug, count in (("16", 16), ("17", 17), ("max", 2**32 - 1)):
        yield base.fault(
            f"announces-{slug}",
            f"{count} extensions announced, none there",
            "malformed",
            ("fim-dec-1", "fim-dec-3"),
            bytes=data[:-4] + uint(count),
        )
    padded = good("padded", "a label with three padding bytes", statement(label=b"label"), DEC)
    yield padded
    data = padded.input["bytes"]
    for at in range(3):
        changed = bytearray(data)
        changed[16 + 16 + 4 + 5 + at] = (1, 0x80, 0xFF)[at]
        yield padded.fault(f"byte-{at}", f"padding byte {at} not zero", "malformed", DEC, bytes=bytes(changed))
    tail = good("extension-padded", "an extension of one byte", statement(extensions=[(1, 0, b"x")]), DEC)
    yield tail
    yield tail.fault(
        "byte-2", "its last padding byte not zero", "malformed", DEC, bytes=tail.input["bytes"][:-1] + b"\1"
    )
    yield tail.fault("unpadded", "without its padding", "malformed", DEC, bytes=tail.input["bytes"][:-3])

    filling = [(n, 0, b"\6" * 1024) for n in range(7)]
    bare = len(statement(extensions=[*filling, (7, 0, b"")]).encode())
    full = good(
        "8192", "a statement of 8,192 bytes", statement(extensions=[*filling, (7, 0, b"\7" * (8192 - bare))]), DEC
    )
    yield full
    longer = statement(extensions=[*filling, (7, 0, b"\7" * (8192 - bare + 1))]).encode()
    yield full.fault("8196", "a statement of 8,196 bytes", "malformed", ("fim-dec-1", "fim-dec-3"), bytes=longer)
    order = statement(format=2, kind=9, nseconds=10**9).encode()
    yield base.fault(
        "format-first",
        "format, kind and nanoseconds are wrong: the format is told",
        "unsupported",
        ("fim-dec-5",),
        flags=["several-faults"],
        bytes=order,
    )
    order = statement(magic=1, format=2, kind=1).encode()
    yield base.fault(
        "magic-first",
        "magic, format and kind are wrong: the magic is told",
        "malformed",
        ("fim-dec-5",),
        flags=["several-faults"],
        bytes=order,
    )
    order = statement(kind=3).encode()[:16] + b"\xff" * 7
    yield base.fault(
        "kind-first",
        "another kind, and nothing behind it that can be read",
        "wrong-kind",
        ("fim-dec-5", "fim-kind-2"),
        flags=["several-faults"],
        bytes=order,
    )
    order = uint(0x4E465356) + uint(1) + uint(1) + uint(4)
    yield base.fault(
        "kind-alone",
        "another kind, and nothing behind it at all",
        "wrong-kind",
        ("fim-dec-5", "fim-kind-2"),
        flags=["several-faults"],
        bytes=order,
    )
    for more in (0, 1, 4, 7):
        order = statement(format=2).encode()[: 8 + more]
        yield base.fault(
            f"format-and-{more}",
            f"another format, and {more} bytes behind it",
            "unsupported",
            ("fim-dec-5", "fim-dec-1"),
            flags=["several-faults"],
            bytes=order,
        )
    order = statement(format=7).encode()[:8] + b"\xee" * 21
    yield base.fault(
        "format-alone",
        "another format, and anything behind it",
        "unsupported",
        ("fim-dec-5",),
        flags=["several-faults"],
        bytes=order,
    )
