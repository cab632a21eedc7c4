# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Volumes: entries, ranges of them and what they show (fim-vol, fim-range); members and exported ones (fim-member)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from oracle import merkle, records, volumes
from oracle.volumes import DIRECTORY, FILE, LINK, Entry
from oracle.xdr import opaque, uint

from . import sample
from .case import Attestation, Case, entry, example_case
from .certificates import example
from .form import Long, Vector
from .names import LONGEST, NOT_NAMES, NOT_PATHS
from .sample import head, statement
from .trees import HASHES, NAMES

CONTENTS = {b"README": 10, b"bin/run": 0, b"bin/stop": 4096, b"lib/a": 9000, b"lib/a/b": 1, b"lib-x/c": 10}
"""Sizes of counting content, by path. One entry lies below a file: that is the publisher's affair."""


def content(path: bytes, hash: int = 1, **changed: Any) -> bytes:
    size = CONTENTS[path]
    fields = {"kind": records.CONTENT, "hash": hash, "size": size, "root": sample.root_of(hash, size)}
    return statement(**(fields | changed)).encode()


def entries_under(hash: int = 1) -> list[Entry]:
    digest = HASHES[hash]
    files = [
        Entry(*path.rpartition(b"/")[::2], FILE, int(path == b"bin/run"), digest(content(path, hash)))
        for path in CONTENTS
    ]
    others = [Entry(b"", name, DIRECTORY) for name in (b"bin", b"lib-x", b"lib")]
    return volumes.ordered(
        [*files, *others, Entry(b"", b"sbin", LINK, 0, b"bin"), Entry(b"lib", b"up", LINK, 0, b"..")]
    )


def shown(one: Entry) -> dict[str, Any]:
    node: dict[str, Any] = {"type": one.type}
    if one.type == FILE:
        node |= {"executable": bool(one.executable), "content": one.content}
    if one.type == LINK:
        node["target"] = one.content
    return {"parent": one.parent, "name": one.name, "node": node}


# Ranges


def ranges() -> Iterator[Vector]:
    yield from _entries()
    for hash in HASHES:
        yield from _ranges(hash)
    yield from _places()
    yield from _listings()


def _entries() -> Iterator[Vector]:
    rule = ("fim-vol-1", "fim-dec-1")

    def of(slug: str, about: str, one: Entry) -> Vector:
        data = one.encode()
        output = {"entry": shown(one), "leaf": HASHES[1](b"\0" + data)}
        return Vector(f"entry-{slug}", about, rule, {"of": "entry", "bytes": data}, output=output)

    file, link = Entry(b"lib", b"a", FILE, 1, b"\1" * 32), Entry(b"", b"l", LINK, 0, b"../x")
    base, linked = of("file", "a file", file), of("link", "a link", link)
    yield base
    yield linked
    above, _, last = LONGEST.rpartition(b"/")
    for slug, about, one in (
        ("root", "a file at the root", replace(file, parent=b"")),
        ("directory", "a directory", Entry(b"", b"d", DIRECTORY)),
        ("not-utf-8", "a name that is not UTF-8", replace(file, name=b"\xff\xfe")),
        ("name-255", "a name of 255 bytes", replace(file, name=b"n" * 255)),
        ("path-4095", "a path of 4,095 bytes", replace(file, parent=above, name=last)),
        ("deep", "a path of 256 names", replace(file, parent=b"/".join([b"d"] * 255))),
        ("digest-64", "a digest of 64 bytes", replace(file, content=b"\1" * 64)),
        ("digest-0", "a digest of no bytes", replace(file, content=b"")),
        ("target-4095", "a target of 4,095 bytes", replace(link, content=b"t" * 4095)),
        ("target-absolute", "an absolute target: judged by who follows it", replace(link, content=b"/etc/passwd")),
    ):  # fmt: skip
        yield of(slug, about, one)

    def bad(base: Vector, slug: str, about: str, data: bytes) -> Vector:
        return base.fault(slug, about, "malformed", rule, bytes=data)

    for slug, (about, name) in NOT_NAMES.items():
        yield bad(base, f"name-{slug}", f"a name: {about}", replace(file, name=name).encode())
    for slug, (about, path) in NOT_PATHS.items():
        if path:
            yield bad(base, f"parent-{slug}", f"a parent: {about}", replace(file, parent=path).encode())
    for slug, about, one in (
        ("deep", "a path of 257 names", replace(file, parent=b"/".join([b"d"] * 256))),
        ("long", "a path of 4,096 bytes, of a parent and a name", replace(file, parent=LONGEST[:-2], name=b"nn")),
        ("digest-65", "a digest of 65 bytes", replace(file, content=bytes(65))),
        ("executable-2", "executable is 2", replace(file, executable=2)),
        ("type-0", "type 0", replace(file, type=0)),
        ("type-4", "type 4", replace(file, type=4)),
    ):
        yield bad(base, slug, about, one.encode())
    for slug, about, target in (
        ("target-0", "a target of no bytes", b""),
        ("target-nul", "a target with a zero byte", b"a\0b"),
        ("target-4096", "a target of 4,096 bytes", b"t" * 4096),
    ):
        yield bad(linked, slug, about, replace(link, content=target).encode())
    data = base.input["bytes"]
    for length in (0, 4, len(data) - 4):
        yield bad(base, f"cut-to-{length}", f"the first {length} bytes", data[:length])
    yield bad(base, "more", "four bytes more", data + bytes(4))
    yield bad(base, "padding", "padding that is not zero", data.replace(b"lib\0", b"lib\1"))


def _given(hash: int, entries: Sequence[Entry], range: bytes) -> dict[str, Any]:
    root = volumes.root(HASHES[hash], entries)
    return {"of": "range", "hash": hash, "entries": Long(len(entries)), "root": root, "range": range}


def _ranges(hash: int) -> Iterator[Vector]:
    """Whether a fim_range is one of the volume."""
    rules = ("fim-range-1", "fim-vol-1", "fim-proof-3")
    digest, entries = HASHES[hash], entries_under(hash)
    length, n = len(digest(b"")), len(entries)
    flags = [] if hash == 1 else [f"needs-hash-{NAMES[hash]}"]

    def of(first: int, end: int) -> Vector:
        output = {"output": {"paths": [one.path for one in entries[first:end]]}}
        given = _given(hash, entries, volumes.range_of(digest, entries, first, end))
        about = f"entries [{first}, {end}) of {n}"
        return Vector(f"range-{NAMES[hash]}-{first}-{end}", about, rules, given, flags=flags, **output)

    spans = [(a, b) for a in range(n) for b in range(a + 1, n + 1)] if hash == 1 else [(0, n), (2, 5), (n - 1, n)]
    for first, end in spans:
        yield of(first, end)
    base = replace_id(of(2, 5), f"range-{NAMES[hash]}")
    yield base
    proof = b"".join(merkle.range_proof(digest, [one.encode() for one in entries], 2, 5, merkle.height(n)))
    inside = entries[2:5]

    def bad(
        slug: str, about: str, outcome: str, clauses: Sequence[str], first: int, given: Sequence[Entry], proof: bytes
    ) -> Vector:
        data = volumes.given_range(first, given, proof)
        return base.fault(slug, about, outcome, clauses, flags=flags, range=data)

    none, fold = ("fim-proof-4", "fim-range-1"), ("fim-range-1", "fim-proof-7")
    yield bad("short", "the last hash is missing", "refused", none, 2, inside, proof[:-length])
    yield bad("long", "a hash too many", "refused", none, 2, inside, proof + bytes(length))
    yield bad("byte", "a byte too many", "refused", none, 2, inside, proof + b"\0")
    yield bad("none", "no entry", "refused", none, 2, [], proof)
    yield bad("empty", "nothing at all", "refused", none, 0, [], b"")
    yield bad("behind", "behind the last entry", "refused", none, n, inside, proof)
    yield bad("over", "over the last entry", "refused", none, n - 2, inside, proof)
    yield bad("far", "the first is 2^64 - 1", "refused", none, 2**64 - 1, inside, proof)
    altered = proof[:-1] + bytes([proof[-1] ^ 1])
    yield bad("altered", "the last hash altered", "mismatch", fold, 2, inside, altered)
    yield bad("reordered", "two entries exchanged", "mismatch", fold, 2, [inside[1], inside[0], inside[2]], proof)
    yield bad("twice", "one entry twice", "mismatch", fold, 2, [inside[0], inside[0], inside[2]], proof)
    yield bad("other", "an entry of another place", "mismatch", fold, 2, [*inside[:2], entries[7]], proof)
    yield bad("renamed", "another name", "mismatch", fold, 2, [*inside[:2], replace(inside[2], name=b"zz")], proof)
    kind = next(at for at, one in enumerate(inside) if one.type == DIRECTORY)
    changed = [*inside[:kind], replace(inside[kind], type=FILE, content=bytes(length)), *inside[kind + 1 :]]
    yield bad("kind", "a file where there is a directory", "mismatch", fold, 2, changed, proof)
    leaves = [digest(b"\0" + one.encode()) for one in entries]
    if hash != 1:
        return
    neighbours = merkle.range_proof(digest, [one.encode() for one in entries], 2, 4, merkle.height(n))
    level = b"".join([*neighbours[:1], leaves[4], *neighbours[2:]])
    yield bad("level", "a leaf where the node above it is due", "mismatch", fold, 2, inside[:2], level)
    other = volumes.range_of(digest, entries[:-1], 2, 5)
    yield base.fault("other-volume", "of a volume with an entry less", "mismatch", (*fold, "fim-head-3"), range=other)
    for slug, about, data in (
        ("cut", "cut by four bytes", base.input["range"][:-4]),
        ("more", "four bytes more", base.input["range"] + bytes(4)),
        ("1025", "1,025 entries announced", base.input["range"][:8] + uint(1025) + base.input["range"][12:]),
        ("dots", "an entry named ..", volumes.given_range(2, [replace(inside[0], name=b".."), *inside[1:]], proof)),
    ):
        yield base.fault(slug, about, "malformed", ("fim-dec-1", "fim-range-1"), range=data)
    yield from _signed_wrong()


def replace_id(vector: Vector, id: str) -> Vector:
    return Vector(
        id, f"{vector.about}, for faults", vector.clauses, vector.input, output=vector.output, flags=vector.flags
    )


def _signed_wrong() -> Iterator[Vector]:
    """What folds, and breaks the rules of a volume all the same."""
    digest = HASHES[1]
    a, b = Entry(b"", b"a", DIRECTORY), Entry(b"", b"b", DIRECTORY)
    deep, longer = Entry(b"a", b"z", DIRECTORY), Entry(b"", b"aa", DIRECTORY)
    low, high = Entry(b"", b"\x7f", DIRECTORY), Entry(b"", b"\x80", DIRECTORY)
    slash, dash = Entry(b"a/b", b"c", DIRECTORY), Entry(b"a-b", b"c", DIRECTORY)
    rules = ("fim-vol-2", "fim-range-2")

    def given(entries: Sequence[Entry]) -> dict[str, Any]:
        return _given(1, entries, volumes.range_of(digest, entries, 0, len(entries)))

    for slug, about, good, faults in (
        ("names", "two names", [a, b], {"falling": [b, a], "twice": [a, a]}),
        ("parents", "0x00 for each slash", [slash, dash], {"as-slash": [dash, slash]}),
        ("below", "what is below comes behind", [b, deep], {"path": [deep, b]}),
        ("prefix", "the shorter first", [a, longer], {"longer": [longer, a]}),
        ("bytes", "bytes have no sign", [low, high], {"sign": [high, low]}),
    ):
        paths = {"paths": [one.path for one in good]}
        base = Vector(f"order-{slug}", f"entries in order: {about}", rules, given(good), output=paths)
        yield base
        for name, entries in faults.items():
            yield base.fault(
                name, "signed in another order", "malformed", rules, flags=["re-signed"],
                **{key: value for key, value in given(entries).items() if value != base.input[key]},
            )  # fmt: skip
    file = Entry(b"", b"f", FILE, 0, bytes(32))
    rules = ("fim-vol-4", "fim-range-2")
    base = Vector("digest", "an entry of a file", rules, given([file]), output={"paths": [b"f"]})
    yield base
    for length in (0, 31, 48):
        wrong = given([replace(file, content=bytes(length))])
        changed = {key: wrong[key] for key in ("root", "range")}
        yield base.fault(
            f"length-{length}", f"a digest of {length} bytes", "malformed", rules, flags=["re-signed"], **changed
        )
    rules = ("fim-range-1", "fim-tree-3")
    base = Vector("range-empty", "a volume without entries", rules, given([]), output={"paths": []})
    yield base
    yield base.fault("root", "another root", "mismatch", rules, root=bytes(32))
    yield base.fault("first", "a first entry", "refused", rules, range=volumes.given_range(1, [], b""))
    yield base.fault("proof", "a proof", "refused", rules, range=volumes.given_range(0, [], bytes(32)))
    yield base.fault("entry", "an entry", "refused", rules, range=volumes.given_range(0, [a], b""))


def _places() -> Iterator[Vector]:
    """Whether a range shows what is at a place, or that nothing is."""
    digest, entries = HASHES[1], entries_under()
    n, rules = len(entries), ("fim-range-3", "fim-vol-2")

    def given(first: int, end: int, path: bytes) -> dict[str, Any]:
        return _given(1, entries, volumes.range_of(digest, entries, first, end)) | {"of": "at", "path": path}

    def at(path: bytes) -> tuple[int, bool]:
        wanted = Entry(*path.rpartition(b"/")[::2], DIRECTORY)
        below = sum(volumes.compare(one, wanted) < 0 for one in entries)
        return below, below < n and volumes.compare(entries[below], wanted) == 0

    there = (b"README", b"sbin", b"bin", b"bin/run", b"lib/a/b", b"lib-x/c")
    for path in (*there, b"\x01", b"a", b"bin/none", b"bin/run/x", b"lib/b", b"lib-w/c", b"zz", b"zz/z"):
        place, is_there = at(path)
        output = {"entry": shown(entries[place]) if is_there else None}
        first, end = max(place - 1, 0), min(place + 1, n)
        slug = path.decode("latin-1").replace("/", "-").replace("\x01", "low").lower()
        base = Vector(
            f"at-{slug}",
            f"{'an entry' if is_there else 'no entry'} of this path",
            rules,
            given(first, end, path),
            output=output,
        )
        yield base
        if is_there:
            yield Vector(f"at-{slug}-alone", "its entry alone", rules, given(place, place + 1, path), output=output)
            continue
        for name, about, first, end in (
            ("before", "without the neighbour before", place, place + 1),
            ("behind", "without the neighbour behind", place - 1, place),
            ("far", "entries behind it only", place + 1, place + 2),
        ):
            if 0 <= first < end <= n and (name != "behind" or place < n) and (name != "before" or place > 0):
                yield base.fault(name, about, "refused", rules, range=given(first, end, path)["range"])


def _listings() -> Iterator[Vector]:
    """What is in a directory, by one range after another."""
    digest, entries = HASHES[1], entries_under()
    n, rules = len(entries), ("fim-range-4", "fim-vol-2")
    changed = [replace(one, executable=1 - one.executable) if one.type == FILE else one for one in entries]

    def page(first: int, end: int, of: Sequence[Entry] = entries) -> bytes:
        return volumes.range_of(digest, of, first, end)

    def listing(slug: str, about: str, parent: bytes, pages: Sequence[bytes]) -> Vector:
        given = {
            "of": "list", "hash": 1, "entries": Long(n), "root": volumes.root(digest, entries), "parent": parent,
            "ranges": list(pages),
        }  # fmt: skip
        names = [one.name for one in entries if one.parent == parent]
        return Vector(f"list-{slug}", about, rules, given, output={"names": names})

    inside = [at for at, one in enumerate(entries) if one.parent == b""]
    yield listing("whole", "the root, of the whole volume", b"", [page(0, n)])
    yield listing("none", "what is no directory", b"none", [page(n - 1, n)])
    lib = [at for at, one in enumerate(entries) if one.parent == b"lib"]
    yield listing("lib", "a directory between others", b"lib", [page(lib[0] - 1, lib[-1] + 2)])
    base = listing("root", "the root, of two ranges", b"", [page(0, 3), page(3, len(inside) + 1)])
    yield base

    def bad(slug: str, about: str, outcome: str, pages: Sequence[bytes], base: Vector = base) -> Vector:
        return base.fault(slug, about, outcome, rules, ranges=list(pages))

    yield listing("overlapping", "ranges that overlap", b"", [page(0, 3), page(2, len(inside) + 1)])
    gap = [page(0, 3), page(4, len(inside) + 1)]
    yield bad("gap", "an entry between the ranges is left out", "refused", gap)
    yield bad("cut", "the last range is missing", "refused", [page(0, 3)])
    yield bad("late", "the first range is missing", "refused", [page(3, len(inside) + 1)])
    yield bad("end", "the entry behind the last is missing", "refused", [page(0, 3), page(3, len(inside))])
    yield bad("swapped", "the ranges exchanged", "refused", [page(3, len(inside) + 1), page(0, 3)])
    yield bad("heads", "the second range of another head", "mismatch", [page(0, 3), page(3, len(inside) + 1, changed)])
    yield bad("empty", "no range", "refused", [])
    middle = listing("bin", "a directory in the middle", b"bin", [page(len(inside) - 1, len(inside) + 3)])
    yield middle
    yield bad(
        "neighbours",
        "the entry before is missing, and could be one of it",
        "refused",
        [page(len(inside) + 1, len(inside) + 3)],
        middle,
    )


# Members


def members() -> Iterator[Vector]:
    yield from _members()
    yield from _exported()


PATH = b"bin/run"


def accepted_head(hash: int = 1, **changed: Any) -> bytes:
    entries = changed.pop("of", None) or entries_under(hash)
    fields = {"hash": hash, "entries": len(entries), "root": volumes.root(HASHES[hash], entries)}
    return head(**(fields | changed)).encode()


def attested(
    path: bytes = PATH, hash: int = 1, of: Sequence[Entry] | None = None, head: bytes | None = None
) -> tuple[int, bytes]:
    """The membership of a path under a head, by default the accepted one."""
    entries = entries_under(hash) if of is None else of
    at = next(index for index, one in enumerate(entries) if one.path == path)
    named = accepted_head(hash) if head is None else head
    tag = uint(hash) + opaque(HASHES[hash](named))
    return records.MEMBERSHIP, tag + volumes.range_of(HASHES[hash], entries, at, at + 1)


def changed_membership(
    first: int | None = None, of: Entry | None = None, proof: bytes | None = None
) -> tuple[int, bytes]:
    entries = entries_under()
    at = next(index for index, one in enumerate(entries) if one.path == PATH)
    right = b"".join(
        merkle.range_proof(HASHES[1], [one.encode() for one in entries], at, at + 1, merkle.height(len(entries)))
    )
    body = volumes.membership(
        1,
        HASHES[1](accepted_head()),
        at if first is None else first,
        [of or entries[at]],
        right if proof is None else proof,
    )
    return records.MEMBERSHIP, body


NOTHING: dict[str, Any] = {"accepted": None, "revoked": []}


def _members() -> Iterator[Vector]:
    rules = ("fim-member-1", "fim-member-2")

    def given(record: bytes | None, path: bytes = PATH, head: bytes | None = None, **more: Any) -> dict[str, Any]:
        found = {"of": "member", "head": accepted_head() if head is None else head, "record": record, "path": path}
        return found | NOTHING | more

    def member(path: bytes = PATH, *attestations: tuple[int, bytes], statement: bytes | None = None) -> bytes:
        return records.record(statement or content(path), sorted(attestations or (attested(path),)))

    def good(slug: str, about: str, data: dict[str, Any], executable: bool = True, flags: Sequence[str] = ()) -> Vector:
        output = {"executable": executable}
        return Vector(
            f"member{slug}", about, (*rules, "fim-vol-4", "fim-head-3"), data, "verified", output=output, flags=flags
        )

    for path in CONTENTS:
        slug = path.decode().lower().replace("/", "-")
        yield good(f"-{slug}", f"the file {path.decode()}", given(member(path), path), path == PATH)
    for hash in HASHES:
        if hash == 1:
            continue
        data = given(records.record(content(PATH, hash), [attested(PATH, hash)]), PATH, accepted_head(hash))
        flags = [f"needs-hash-{NAMES[hash]}"]
        yield good(f"-{NAMES[hash]}", f"under hash {hash}", data, True, flags)
    signature = Attestation(example())
    signed = (signature.type, signature.body(content(PATH)))
    beside = member(PATH, attested(), signed, (9, b"x"))
    yield good("-beside", "with a signature and another type beside it", given(beside))
    base = good("", "a member, for faults", given(member()))
    yield base

    def bad(
        slug: str,
        about: str,
        verdict: str,
        step: int,
        clauses: Sequence[str] = rules,
        flags: Sequence[str] = (),
        **changed: Any,
    ) -> Vector:
        return base.fault(slug, about, verdict, clauses, step=step, flags=flags, **changed)

    yield bad("none", "no record", "unsigned", 0, record=None)
    yield bad("cut", "cut by four bytes", "malformed", 1, record=member()[:-4])
    yield bad(
        "two",
        "a second membership",
        "malformed",
        1,
        ("fim-rec-9",),
        record=member(PATH, attested(), attested(b"README")),
    )
    yield bad("file", "a record of kind file", "wrong-kind", 2, record=example_case().encoded())
    head_record = records.record(accepted_head(), [signed])
    yield bad("head", "the head instead", "wrong-kind", 2, record=head_record)
    yield bad("signed", "a signature, and no membership", "not-member", 3, record=member(PATH, signed))
    older = accepted_head(generation=sample.GENERATION - 1)
    newer_entries = [replace(one, executable=0) for one in entries_under()]
    newer = accepted_head(of=newer_entries, generation=sample.GENERATION + 1)
    mix = (*rules, "fim-head-3")
    yield bad("older", "of an older head", "other-head", 3, mix, record=member(PATH, attested(head=older)))
    yield bad(
        "newer", "of a newer head", "other-head", 3, mix, record=member(PATH, attested(of=newer_entries, head=newer))
    )
    yield bad(
        "other-volume",
        "of another volume",
        "other-head",
        3,
        mix,
        record=member(PATH, attested(head=accepted_head(volume=bytes(16)))),
    )
    other_hash = (2, uint(10) + opaque(HASHES[1](accepted_head())) + attested()[1][40:])
    yield bad(
        "hash-of-head",
        "the digest of the head, and another hash",
        "other-head",
        3,
        mix,
        record=member(PATH, other_hash),
    )
    yield bad("accepted-newer", "where a newer head was accepted", "other-head", 3, mix, head=newer)
    yield bad("path", "another path is expected", "wrong-path", 3, path=b"README")
    yield bad("case", "the path in upper case", "wrong-path", 3, (*rules, "fim-path-5"), path=b"BIN/RUN")
    yield bad("swapped", "the record of another file", "wrong-path", 3, record=member(b"bin/stop"))
    for path, slug in ((b"sbin", "link"), (b"lib", "directory")):
        yield bad(slug, f"the entry of a {slug}", "wrong-kind", 3, record=member(b"README", attested(path)), path=path)
    critical = content(PATH, extensions=[(1, 1, b"")])
    yield bad(
        "extension", "a critical extension", "unknown-extension", 4, record=member(PATH, attested(), statement=critical)
    )
    yield bad(
        "hash",
        "a statement under another hash",
        "not-member",
        5,
        record=member(PATH, attested(), statement=content(PATH, 10)),
    )
    yield bad(
        "tree",
        "another tree type",
        "unsupported",
        5,
        record=member(PATH, attested(), statement=content(PATH, tree_type=9)),
    )
    accepted = {"hashes": [1], "schemes": [0x0807], "unit_log2s": [13]}
    yield bad("unit", "a unit size that is not accepted", "refused-algorithm", 5, accepted=accepted)
    fold = (*rules, "fim-range-1")
    entries = entries_under()
    run = next(one for one in entries if one.path == PATH)
    yield bad("place", "another place", "not-member", 9, fold, record=member(PATH, changed_membership(first=0)))
    yield bad(
        "outside",
        "a place behind the last",
        "not-member",
        9,
        fold,
        record=member(PATH, changed_membership(first=2**64 - 1)),
    )
    yield bad("proof-none", "no proof", "not-member", 9, fold, record=member(PATH, changed_membership(proof=b"")))
    yield bad(
        "proof", "a proof of zeros", "not-member", 9, fold, record=member(PATH, changed_membership(proof=bytes(128)))
    )
    yield bad(
        "executable",
        "the executable bit taken away",
        "not-member",
        9,
        fold,
        record=member(PATH, changed_membership(of=replace(run, executable=0))),
    )
    yield bad(
        "digest",
        "the entry of another content",
        "not-member",
        9,
        fold,
        record=member(PATH, changed_membership(of=replace(run, content=HASHES[1](content(b"README"))))),
    )
    yield bad(
        "content", "another content", "not-member", 9, record=member(PATH, attested(), statement=content(b"README"))
    )
    yield bad(
        "mtime", "another mtime", "not-member", 9, record=member(PATH, attested(), statement=content(PATH, seconds=0))
    )
    short = [replace(one, content=bytes(31)) if one.path == PATH else one for one in entries]
    short_head = accepted_head(of=short)
    named = member(PATH, attested(of=short, head=short_head))
    yield bad(
        "short", "the head has a digest of another length", "malformed", 9, ("fim-vol-4", "fim-range-2"), ["re-signed"],
        head=short_head, record=named,
    )  # fmt: skip
    revoked = [{"what": records.VERSION, "hash": 1, "digest": HASHES[1](content(PATH))}]
    yield bad("revoked", "its tag is revoked", "revoked", 11, (*rules, "fim-rev-13"), ["revocations"], revoked=revoked)


# Exported


def signed_head(data: bytes) -> bytes:
    signature = Attestation(example())
    return records.record(data, [(signature.type, signature.body(data))])


def _exported() -> Iterator[Vector]:
    rules = ("fim-export-1", "fim-export-2")
    record, top = records.record(content(PATH), [attested()]), signed_head(accepted_head())

    def given(data: bytes) -> dict[str, Any]:
        return {
            "of": "exported", "bytes": data, "path": PATH, "volume": sample.VOLUME, "pin": example().name,
            "now": Long(sample.NOW),
        }  # fmt: skip

    base = Vector(
        "exported", "a member with its head", (*rules, "fim-export-3"), given(volumes.exported(record, top)),
        "verified",
        output={"executable": True},
    )  # fmt: skip
    yield base

    def bad(slug: str, about: str, verdict: str, step: int, clauses: Sequence[str] = rules, **changed: Any) -> Vector:
        return base.fault(slug, about, verdict, clauses, step=step, **changed)

    data = base.input["bytes"]
    yield bad("cut", "cut by four bytes", "malformed", 1, bytes=data[:-4])
    yield bad("more", "four bytes more", "malformed", 1, bytes=data + bytes(4))
    yield bad("record", "the record alone", "malformed", 1, (*rules, "fim-export-3"), bytes=record)
    yield bad("head-alone", "the head alone", "malformed", 1, (*rules, "fim-export-3"), bytes=top)
    yield bad("nothing", "no bytes", "malformed", 1, bytes=b"")
    yield bad("long", "a record of 65,540 bytes", "malformed", 1, bytes=volumes.exported(bytes(65540), top))
    yield bad("exchanged", "the two exchanged", "wrong-kind", 2, bytes=volumes.exported(top, record))
    yield bad("twice", "the head twice", "wrong-kind", 2, bytes=volumes.exported(top, top))
    yield bad("volume", "another volume is expected", "wrong-volume", 3, volume=bytes(16))
    yield bad("path", "another path is expected", "wrong-path", 3, path=b"README")
    newer = signed_head(accepted_head(generation=sample.GENERATION + 1))
    yield bad("newer", "with a newer head of the same root", "other-head", 3, bytes=volumes.exported(record, newer))
    foreign = bytearray(top)
    foreign[-1] ^= 1
    yield bad(
        "signature",
        "the signature of the head altered",
        "bad-signature",
        9,
        bytes=volumes.exported(record, bytes(foreign)),
    )
    late = accepted_head(not_after=sample.NOW - 1)
    expired = volumes.exported(records.record(content(PATH), [attested(head=late)]), signed_head(late))
    yield bad("expired", "the head has expired", "record-expired", 12, bytes=expired)
    first = volumes.exported(b"", signed_head(late))
    yield bad("first", "no record, and an expired head: the head is judged first", "record-expired", 12, bytes=first)
    other = records.record(content(b"README"), [attested()])
    yield bad("content", "another content", "not-member", 9, bytes=volumes.exported(other, top))


# Heads


def heads() -> Iterator[Vector]:
    rules = ("fim-ver-4", "fim-kind-4", "fim-head-1")
    data = accepted_head()

    def case(data: bytes = data, **changed: Any) -> Case:
        return example_case(**({"statement": data, "wanted": records.VOLUME, "path": b"", "content": None} | changed))

    def mark(generation: int, data: bytes, kind: int = records.VOLUME, **more: Any) -> dict[str, Any]:
        found = {
            "entry": 0, "volume": sample.VOLUME, "kind": kind, "path": b"", "signer": example().name,
            "generation": Long(generation), "tag": {"hash": 1, "digest": HASHES[1](data)},
        }  # fmt: skip
        return found | more

    base = case().vector("head", "the head of a volume", rules)
    yield base
    unlimited = case(volumes=None).vector("head-any-volume", "where any volume is expected", rules)
    yield unlimited
    member = attested()
    signature = Attestation(example())
    yield case(attestations=(signature, member)).vector(
        "head-membership-beside", "a membership beside the signature", ("fim-head-1", "fim-rec-10")
    )
    generation, own = sample.GENERATION, (("fim-head-4", "fim-mark-6"), ["marks"])
    yield case(marks=(mark(generation, data),)).vector("head-marked", "its own mark", *own)
    yield case(marks=(mark(generation + 1, data, records.REVOCATION),)).vector(
        "head-mark-other-kind", "a mark of a revocation", *own
    )

    def bad(
        slug: str, about: str, verdict: str, step: int, case: Case, clauses: Sequence[str] = rules,
        flags: Sequence[str] = (), output: dict[str, Any] | None = None,
    ) -> Vector:  # fmt: skip
        return base.fault(slug, about, verdict, clauses, step=step, flags=flags, output=output, **case.input())

    changed = ["re-signed"]
    yield bad("file", "the record of a file", "wrong-kind", 2, case(statement().encode()), rules, changed)
    yield bad("content", "a statement of kind content", "wrong-kind", 2, case(content(PATH)), rules, changed)
    yield bad(
        "wanted",
        "where the record of a file is wanted",
        "wrong-kind",
        2,
        case(wanted=records.FILE),
        ("fim-kind-1", "fim-kind-2"),
    )
    yield bad(
        "wanted-revocation",
        "where a revocation is wanted",
        "wrong-kind",
        2,
        case(wanted=records.REVOCATION),
        ("fim-kind-3",),
    )
    yield bad("volume", "of another volume", "wrong-volume", 3, case(accepted_head(volume=bytes(16))), rules, changed)
    critical = accepted_head(extensions=[(1, 1, b"")])
    yield bad("extension", "a critical extension", "unknown-extension", 4, case(critical), rules, changed)
    truncated = head(hash=2, root=bytes(15)).encode()
    yield bad("truncated", "a truncated hash", "refused-algorithm", 5, case(truncated), ("fim-hash-3",), changed)
    yield bad(
        "membership-alone",
        "a membership, and no signature",
        "unsupported",
        6,
        case(attestations=(member,)),
        ("fim-head-1", "fim-rec-10"),
    )
    yield bad(
        "stripped",
        "the signature replaced by a membership",
        "unsupported",
        6,
        case(attestations=(member, (9, b""))),
        ("fim-head-1", "fim-rec-10"),
    )
    yield bad(
        "root", "another root, as it was signed", "bad-signature", 9, case(accepted_head(root=bytes(32)), signed=data)
    )
    yield bad(
        "entries", "an entry less, as it was signed", "bad-signature", 9, case(accepted_head(entries=3), signed=data)
    )
    unmarked = {"without_marks": "verified"}
    yield bad(
        "rollback", "below a mark", "rollback", 11, case(marks=(mark(generation + 1, data),)), own[0], own[1], unmarked
    )
    yield bad(
        "equivocation",
        "another one of the same generation",
        "equivocation",
        11,
        case(marks=(mark(generation, b"x"),)),
        own[0],
        own[1],
        unmarked,
    )
    yield bad(
        "issued",
        "issued later than now",
        "issued-in-future",
        12,
        case(accepted_head(issued=sample.NOW + 301)),
        rules,
        changed,
    )
    yield bad(
        "expired",
        "its not_after has passed",
        "record-expired",
        12,
        case(accepted_head(not_after=sample.NOW - 1)),
        rules,
        changed,
    )

    file = example_case().vector("file-without-head", "a stand-alone record, and no mark of a head", ("fim-head-2",))
    yield file
    yield file.fault(
        "head", "a mark of a head of its volume", "wrong-kind", ("fim-head-2",), step=11, flags=["marks"],
        output=unmarked, marks=[mark(1, data)],
    )  # fmt: skip
    yield file.fault(
        "head-newer", "a mark of a head of its volume, of a greater generation", "wrong-kind", ("fim-head-2",), step=11,
        flags=["marks"], output=unmarked, marks=[mark(generation + 1, data)],
    )  # fmt: skip
    elsewhere = (entry(example().name), entry("signer-0", prefixes=["nfsv://elsewhere.example:1/"]))
    yield example_case(trust=elsewhere, marks=(mark(1, data, entry=1),)).vector(
        "file-head-elsewhere",
        "a mark of a head under an entry that does not cover the place",
        ("fim-head-2",),
        ["marks"],
    )
    yield example_case(marks=(mark(1, data, volume=bytes(16)),)).vector(
        "file-head-of-another", "a mark of a head of another volume", ("fim-head-2",), ["marks"]
    )
