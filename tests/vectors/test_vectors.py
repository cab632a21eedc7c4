# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Every vector of spec/vectors against `nfsverity_proto`: as an implementer would use them, from the JSON alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nfsverity_client.presentation import pieces
from nfsverity_proto import certificate as x509
from nfsverity_proto import fsverity, messages, proof, rpc, signature, slices, tree, url
from nfsverity_proto import path as names
from nfsverity_proto.entry import DirectoryNode, FileNode, LinkNode, decode_entry, encode_entry, key_of_path
from nfsverity_proto.entry_range import ENTRY_RANGE, EntryRange, children, entry_at, verify_range
from nfsverity_proto.errors import Malformed, MalformedMessage, Mismatch, RpcRefused, StatusError, VerificationError
from nfsverity_proto.exported import verify_exported
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.marks import NO_MARKS, Mark, Marks
from nfsverity_proto.member import verify_member
from nfsverity_proto.record import Fingerprint, Record, decode_record, encode_record, signed_bytes
from nfsverity_proto.revocation import Accepted, Revoked
from nfsverity_proto.statement import (
    File,
    Item,
    Kind,
    Revocation,
    Statement,
    Tag,
    Volume,
    When,
    decode_statement,
    encode_statement,
    tag_of,
)
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified, check_revoked, verify_head, verify_record, verify_revocation
from nfsverity_proto.verifier import ALL_ALGORITHMS, Algorithms, Expected, Verifier
from nfsverity_proto.xdr import Codec

FOLDER = Path(__file__).parents[2] / "spec" / "vectors"
Json = dict[str, Any]
TOGETHER = 48


@cache
def load(subject: str) -> Json:
    found: Json = json.loads((FOLDER / f"{subject}.json").read_text())
    return found


def cases(subject: str) -> Callable[[Callable[[Json], None]], Any]:
    """Runs a test for each vector of a file, some dozen at a time: what fails is told by its id."""
    vectors = load(subject)["vectors"]
    starts = range(0, len(vectors), TOGETHER)

    def decorate(test: Callable[[Json], None]) -> Any:
        @pytest.mark.parametrize("start", starts, ids=[vectors[start]["id"] for start in starts])
        def together(start: int) -> None:
            failed = []
            for vector in vectors[start : start + TOGETHER]:
                try:
                    test(vector)
                except Exception as error:  # noqa: BLE001 - one that fails does not hide the next
                    failed.append(f"{vector['id']}: {type(error).__name__} {error}")
            if failed:
                pytest.fail("\n".join(failed), pytrace=False)

        return together

    return decorate


def data_of(value: Any) -> bytes:
    """Bytes, as README.md has them."""
    match value:
        case str():
            return bytes.fromhex(value)
        case {"repeat": byte, "length": length}:
            return bytes.fromhex(byte) * int(length)
        case {"counting": start, "length": length}:
            whole = bytes(range(251)) * (int(length) // 251 + 2)
            return whole[start : start + length]
        case {"pieces": pieces}:
            return b"".join(map(data_of, pieces))
    raise AssertionError(value)


def check(vector: Json, outcome: str, output: Json | None = None) -> None:
    """The outcome is the vector's, and so is what came out, where the vector says it."""
    assert outcome == vector["outcome"], vector["about"]
    if output is not None:
        assert output == {key: plain(value) for key, value in vector.get("output", {}).items()}


def plain(value: Any) -> Any:
    """A value of a vector with its bytes unpacked, where they are a recipe."""
    match value:
        case {"repeat": _} | {"counting": _} | {"pieces": _}:
            return data_of(value).hex()
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


# Trees


def counting_leaves(number: int, size: int, unit_log2: int) -> list[bytes]:
    return [_leaf(number, start % 251, min(1 << unit_log2, size - start)) for start in range(0, size, 1 << unit_log2)]


@cache
def _leaf(number: int, start: int, length: int) -> bytes:
    return hash_by_number(number).leaf(data_of({"counting": start, "length": length}))


@cache
def _numbered_levels(number: int, n: int) -> list[Any]:
    """A tree whose units are the eight bytes of their indexes."""
    hash = hash_by_number(number)
    return list(tree.levels(hash, [hash.leaf(index.to_bytes(8, "big")) for index in range(n)]))


def _numbered_root(n: int) -> bytes:
    """From the whole subtrees of one large tree: they are those of every smaller one."""
    levels = _numbered_levels(1, 2**20 + 1)
    left, _ = proof.siblings(n, n - 1, n, tree.height(n))
    hashes = [levels[level][index] for level, index in left]
    return proof.fold(hash_by_number(1), n, n - 1, [levels[0][n - 1]], tree.height(n), hashes).top


@cases("tree")
def test_trees(vector: Json) -> None:
    given = vector["input"]
    of = given["of"]
    if of == "name":
        check(vector, *_name(int(given["units"]), given["level"], int(given["index"])))
        return
    hash = hash_by_number(given["hash"])
    if of == "leaf":
        check(vector, "ok", {"value": hash.leaf(data_of(given["unit"])).hex()})
    elif of == "node":
        check(vector, "ok", {"value": hash.node(data_of(given["left"]), data_of(given["right"])).hex()})
    elif of == "numbered":
        n = given["leaves"]
        check(vector, "ok", {"height": tree.height(n), "root": _numbered_root(n).hex()})
    else:
        shape = tree.Shape(int(given["size"]), given["unit_log2"])
        sizes = {"units": str(shape.units), "height": shape.height}
        if of == "zeros":
            check(vector, "ok", sizes | {"root": _zeros(hash, shape).hex()})
            return
        leaves = counting_leaves(hash.number, shape.size, shape.unit_log2)
        if of == "file":
            check(vector, "ok", sizes | {"root": tree.root(hash, leaves).hex()})
        elif of == "levels":
            check(vector, "ok", {"levels": [[node.hex() for node in level] for level in tree.levels(hash, leaves)]})
        else:
            assert of == "claim"
            check(vector, "ok" if tree.root(hash, leaves) == data_of(given["root"]) else "mismatch")


def _name(units: int, level: int, index: int) -> tuple[str, Json | None]:
    try:
        low, at = tree.canonical(units, level, index)
    except ValueError:
        return "invalid", None
    first, end = index << level, min((index + 1) << level, units)
    return "ok", {"first": str(first), "end": str(end), "canonical": {"level": low, "index": str(at)}}


def _zeros(hash: Any, shape: tree.Shape) -> bytes:
    """The root by zero subtrees and the last, short unit: as the proof of that unit, folded."""
    if not shape.units:
        return hash.digest(b"")  # type: ignore[no-any-return]
    start, stop = shape.unit_span(shape.units - 1, shape.units)
    leaf = hash.leaf(bytes(stop - start))
    left, right = proof.siblings(shape.units, shape.units - 1, shape.units, shape.height)
    assert not right
    return proof.fold(
        hash,
        shape.units,
        shape.units - 1,
        [leaf],
        shape.height,
        [tree.zero_node(hash, shape.unit_log2, level) for level, _ in left],
    ).top


# Proofs


@cases("proof")
def test_proofs(vector: Json) -> None:
    given = vector["input"]
    hash = hash_by_number(given["hash"])
    n, first, end, level = int(given["n"]), int(given["first"]), int(given["end"]), given["level"]
    check(
        vector,
        _fold(
            hash,
            n,
            first,
            end,
            level,
            [data_of(unit) for unit in given["units"]],
            data_of(given["proof"]),
            data_of(given["value"]),
        ),
    )
    if (
        vector["valid"] and "base" not in vector and n <= 5000
    ):  # units are their own indexes: the proof can be made (fim-proof-3)
        levels = _numbered_levels(hash.number, n)
        made = proof.prove(lambda level, index: levels[level][index], n, first, end, level)
        assert b"".join(made) == data_of(given["proof"])


def _fold(hash: Any, n: int, first: int, end: int, level: int, units: list[bytes], hashes: bytes, value: bytes) -> str:
    try:
        proof.check_range(n, first, end, level)
    except ValueError:
        return "range"
    if len(units) != end - first:
        return "length"
    try:
        folded = proof.fold(
            hash, n, first, [hash.leaf(unit) for unit in units], level, proof.split_hashes(hashes, hash.length)
        )
    except ValueError:
        return "length"
    return "ok" if folded.top == value else "mismatch"


@cases("tree2")
def test_block_trees(vector: Json) -> None:
    given = vector["input"]
    shape = tree.Shape(int(given["size"]), given["unit_log2"])
    blocks = fsverity.BlockTree(hash_by_number(given["hash"]), shape)
    if given["of"] == "proof":
        check(vector, _fold_blocks(blocks, given))
        return
    data = data_of({"counting": 0, "length": shape.size})
    leaves = [blocks.leaf(data[at : at + shape.unit_size]) for at in range(0, len(data), shape.unit_size)]
    root = blocks.root(leaves)
    if given["of"] == "claim":
        check(vector, "ok" if root == data_of(given["root"]) else "mismatch")
        return
    found = {"units": str(shape.units), "height": blocks.height, "root": root.hex()}
    check(vector, "ok", found | {"fsverity_digest": blocks.digest(root).hex()})


def _fold_blocks(blocks: fsverity.BlockTree, given: Json) -> str:
    content, first, unit = data_of(given["content"]), int(given["first"]), blocks.shape.unit_size
    leaves = [blocks.leaf(content[at : at + unit]) for at in range(0, len(content), unit)]
    start, stop = blocks.shape.unit_span(first, first + len(leaves))
    if len(content) != stop - start:
        return "mismatch"
    try:
        hashes = proof.split_hashes(data_of(given["proof"]), blocks.hash.length)
        return "ok" if blocks.fold(first, leaves, hashes) == data_of(given["root"]) else "mismatch"
    except ValueError:
        return "length"


# Statements and records


def when_fields(when: When) -> Json:
    return {"generation": str(when.generation), "issued": str(when.issued), "not_after": str(when.not_after)}


def statement_fields(statement: Statement) -> Json:
    found: Json = {"hash": statement.hash, "kind": int(statement.kind)}
    claim = statement.claim
    extensions = [
        {"number": one.number, "critical": one.critical, "value": one.value.hex()} for one in statement.extensions
    ]
    if isinstance(claim, Revocation):
        items = [{"what": one.what, "hash": one.hash, "digest": one.digest.hex()} for one in claim.items]
        found["revocation"] = {
            "volume": claim.volume.hex(), "label": claim.label.hex(), "when": when_fields(claim.when), "items": items,
        }  # fmt: skip
        return found | {"extensions": extensions}
    if isinstance(claim, Volume):
        found["volume"] = {
            "volume": claim.volume.hex(), "label": claim.label.hex(), "when": when_fields(claim.when),
            "entries": str(claim.entries), "root": claim.root.hex(),
        }  # fmt: skip
        return found | {"extensions": extensions}
    content = claim.content if isinstance(claim, File) else claim
    described = {
        "mtime": {"seconds": str(content.mtime.seconds), "nseconds": content.mtime.nseconds},
        "tree": {
            "type": content.tree.type,
            "unit_log2": content.tree.unit_log2,
            "size": str(content.tree.size),
            "root": content.tree.root.hex(),
        },
    }
    if isinstance(claim, File):
        found["file"] = {
            "volume": claim.volume.hex(), "label": claim.label.hex(), "path": claim.path.hex(),
            "when": when_fields(claim.when), "executable": claim.executable, "content": described,
        }  # fmt: skip
    else:
        found["content"] = described
    return found | {"extensions": extensions}


@cases("statement")
def test_statements(vector: Json) -> None:
    data = data_of(vector["input"]["bytes"])
    try:
        statement = decode_statement(data, Kind(vector["input"]["wanted"]))
    except VerificationError as error:
        check(vector, error.verdict)
        return
    output: Json = {"statement": statement_fields(statement)}
    if "tag" in vector["output"]:
        tag = tag_of(data, statement.hash)
        output["tag"] = {"hash": tag.hash, "digest": tag.digest.hex()}
    check(vector, "ok", output)
    assert encode_statement(statement) == data


@cases("record")
def test_records(vector: Json) -> None:
    data = data_of(vector["input"]["bytes"])
    try:
        record = decode_record(data)
    except VerificationError as error:
        check(vector, error.verdict)
        return
    found = [{"type": one.type, "body": one.body.hex()} for one in record.attestations]
    check(vector, "ok", {"statement": record.statement.hex(), "attestations": found})
    assert encode_record(record.statement, list(record.attestations)) == data


# Signatures


@cases("signature")
def test_signatures(vector: Json) -> None:
    given = vector["input"]
    try:
        scheme = signature.scheme_by_number(given["scheme"])
        key = x509.parse_certificate(certificates()[given["certificate"]]).public_key
        signature.check_key(scheme, key)
        signature.check_signature(scheme, key, data_of(given["value"]), data_of(given["message"]))
    except VerificationError as error:
        check(vector, error.verdict)
        return
    check(vector, "ok")


# Verification


@cache
def certificates() -> dict[str, bytes]:
    return {one["name"]: data_of(one["der"]) for one in load("certificates")["certificates"]}


def entry_of(given: Json) -> TrustEntry:
    subject = given["subject"]
    if subject is not None:
        from cryptography.x509 import Name, NameAttribute, ObjectIdentifier

        name = Name([NameAttribute(ObjectIdentifier(one["type"]), one["value"]) for one in subject])
        subject = name.rfc4514_string()
    return TrustEntry(
        certificates()[given["anchor"]],
        ca=given["ca"],
        subject=subject,
        volumes=tuple(map(data_of, given["volumes"])),
        prefixes=tuple(given["prefixes"]),
        schemes=tuple(given["schemes"]),
        signers=given["signers"],
    )


def spki_of(name: str) -> bytes:
    return x509.parse_certificate(certificates()[name]).key_id()


def items_of(given: list[Json]) -> frozenset[Item]:
    return frozenset(Item(one["what"], one["hash"], data_of(one["digest"])) for one in given)


class KeptMarks:
    """The marks of a vector."""

    def __init__(self, given: Json) -> None:
        self.kept: dict[tuple[bytes, bytes, int, bytes], dict[bytes, Mark]] = {}
        for one in given["marks"]:
            anchor = certificates()[given["trust"][one["entry"]]["anchor"]]
            under = anchor, data_of(one["volume"]), one["kind"], data_of(one["path"])
            mark = Mark(int(one["generation"]), Tag(one["tag"]["hash"], data_of(one["tag"]["digest"])))
            self.kept.setdefault(under, {})[spki_of(one["signer"])] = mark

    def under(self, anchor: bytes, volume: bytes, kind: Kind, path: bytes) -> dict[bytes, Mark]:
        return self.kept.get((anchor, volume, int(kind), path), {})


def revoked_of(given: Json) -> Revoked:
    latest = {
        spki_of(one["signer"]): Accepted(int(one["generation"]), int(one["not_after"]), items_of(one["items"]))
        for one in given["accepted"]
    }
    return Revoked(items_of(given["items"]), latest)


def algorithms_of(accepted: Json | None) -> Algorithms:
    if accepted is None:
        return ALL_ALGORITHMS
    return Algorithms(frozenset(accepted["hashes"]), frozenset(accepted["schemes"]), frozenset(accepted["unit_log2s"]))


def verified(given: Json, marks: Marks | None = None) -> Any:
    """Steps 0 to 12, then 13 for the content that is given."""
    algorithms = algorithms_of(given["accepted"])
    record = None if given["record"] is None else data_of(given["record"])
    volumes = given["volumes"]
    verify = {Kind.FILE: verify_record, Kind.VOLUME: verify_head, Kind.REVOCATION: verify_revocation}[given["wanted"]]
    found = verify(
        record,
        Expected(data_of(given["path"]), None if volumes is None else frozenset(map(data_of, volumes)), given["url"]),
        Verifier(
            [entry_of(entry) for entry in given["trust"]],
            {
                Fingerprint(one["hash"], data_of(one["digest"])): [certificates()[name] for name in one["given"]]
                for one in given["certificates"]
            },
            int(given["now"]),
            algorithms,
            KeptMarks(given) if marks is None else marks,
            revoked_of(given["revoked"]),
        ),
    )
    if given["content"] is not None:
        verify_content(found, data_of(given["content"]), given["read"])
    return found


def verify_content(found: Any, content: bytes, read: Json | None) -> None:
    """All of the content; or the units of a read, with their proof."""
    hash, shape, root = hash_by_number(found.tag.hash), found.content.tree.shape, found.content.tree.root
    unit = shape.unit_size
    leaves = [hash.leaf(content[at : at + unit]) for at in range(0, len(content), unit)]
    if read is None:
        if len(content) != shape.size or tree.root(hash, leaves) != root:
            raise Mismatch("content")
        return
    first, end = int(read["first"]), int(read["first"]) + int(read["count"])
    start, stop = shape.unit_span(first, end)
    hashes = proof.split_hashes(data_of(read["proof"]), hash.length)
    if len(content) != stop - start or proof.fold(hash, shape.units, first, leaves, shape.height, hashes).top != root:
        raise Mismatch("units")


def verdict_of(given: Json, marks: Marks | None = None) -> str:
    try:
        verified(given, marks)
    except VerificationError as error:
        return error.verdict
    return "verified"


@cases("verification")
def test_verification(vector: Json) -> None:
    assert verdict_of(vector["input"]) == vector["outcome"], vector["about"]
    output = vector.get("output", {})
    if "without_marks" in output:
        assert verdict_of(vector["input"], NO_MARKS) == output["without_marks"], vector["about"]
    if "tag" in output:
        found = verified(vector["input"])
        assert output["tag"] == {"hash": found.tag.hash, "digest": found.tag.digest.hex()}


@cases("scope")
def test_scopes(vector: Json) -> None:
    """`TrustEntry` compares URLs in their one form, into which `parse_url` brings them, as for command and client."""
    given = vector["input"]
    try:
        entry = entry_of(given["entry"])
    except ValueError:
        check(vector, "refused")
        return
    if given["of"] == "entry":
        check(vector, "ok")
        return
    try:
        place = None if given["url"] is None else in_form(given["url"])
        entry = dataclasses.replace(entry, prefixes=tuple(map(in_form, entry.prefixes)))
    except ValueError:
        check(vector, "not-covered")
        return
    check(vector, "covered" if entry.covers(data_of(given["volume"]), place) else "not-covered")


def in_form(text: str) -> str:
    return str(url.parse_url(text)) if url.is_url(text) else text


# Volumes

RANGE: Codec[EntryRange] = Codec(ENTRY_RANGE)


@cases("range")
def test_ranges(vector: Json) -> None:
    try:
        check(vector, "ok", _shown_by(vector["input"]))
    except Malformed:
        check(vector, "malformed")
    except Mismatch:
        check(vector, "mismatch")
    except ValueError:
        check(vector, "refused")


def _shown_by(given: Json) -> Json:
    if given["of"] == "entry":
        data = data_of(given["bytes"])
        try:
            entry = decode_entry(data)
        except ValueError as error:
            raise Malformed(str(error)) from error
        assert encode_entry(entry) == data
        return {"entry": described(entry), "leaf": hash_by_number(1).leaf(data).hex()}
    hash = hash_by_number(given["hash"])
    volume = Volume(bytes(16), b"any", When(0, 0, 0), int(given["entries"]), data_of(given["root"]))

    def folded(data: Any) -> EntryRange:
        try:
            found = RANGE.decode(data_of(data))
        except ValueError as error:
            raise Malformed(str(error)) from error
        verify_range(volume, hash, found)
        return found

    if given["of"] == "list":
        found = EntryRange(0, (), b"")
        for at, page in enumerate(map(folded, given["ranges"])):
            if at and not found.first <= page.first <= found.first + len(found.entries):
                raise ValueError("a gap")
            known = found.entries[: page.first - found.first] if at else ()
            found = EntryRange(found.first if at else page.first, known + page.entries, b"")
        listed, is_last = children(volume, found, data_of(given["parent"]), b"")
        if not is_last:
            raise ValueError("some may be missing")
        return {"names": [one.name.hex() for one in listed]}
    found = folded(given["range"])
    if given["of"] == "range":
        return {"paths": [entry.path.hex() for entry in found.entries]}
    there = entry_at(volume, found, key_of_path(data_of(given["path"])))
    return {"entry": None if there is None else described(there)}


@cases("member")
def test_members(vector: Json) -> None:
    given = vector["input"]
    try:
        if given["of"] == "member":
            data = data_of(given["head"])
            statement = decode_statement(data, Kind.VOLUME)
            head = Verified(b"", Record(data, ()), statement, tag_of(data, statement.hash), ())
            record = None if given["record"] is None else data_of(given["record"])
            found = verify_member(record, data_of(given["path"]), head, algorithms_of(given["accepted"]))
            check_revoked(found, Revoked(items_of(given["revoked"])))
        else:
            expected = Expected(data_of(given["path"]), frozenset({data_of(given["volume"])}))
            trust = [TrustEntry(certificates()[given["pin"]])]
            _, found = verify_exported(data_of(given["bytes"]), expected, Verifier(trust, {}, int(given["now"])))
    except VerificationError as error:
        check(vector, error.verdict)
        return
    check(vector, "verified", {"executable": found.file.executable})


# Names


@cases("path")
def test_paths(vector: Json) -> None:
    given = vector["input"]
    data = data_of(given["bytes"])
    if given["of"] == "compare":
        check(vector, "ok" if names.join_path(data) == names.join_path(data_of(given["with"])) else "different")
        return
    try:
        found = (names.check_name(data),) if given["of"] == "name" else names.split_path(data)
    except ValueError:
        check(vector, "invalid")
        return
    check(vector, "ok", {"names": [name.hex() for name in found]})


@cases("url")
def test_urls(vector: Json) -> None:
    try:
        found = url.parse_url(vector["input"]["url"])
    except ValueError:
        check(vector, "invalid")
        return
    check(vector, "ok", {"host": found.host, "port": found.port, "path": found.path.hex(), "canonical": str(found)})
    assert url.parse_url(str(found)) == found


# Record marking


@cases("mark")
def test_marking(vector: Json) -> None:
    """All at once, and for short streams byte by byte: the messages and the end are the same."""
    stream = data_of(vector["input"]["stream"])
    for most in (len(stream), 1) if len(stream) < 1000 else (len(stream),):
        found, closed, whole = _received(stream, most)
        output = vector["output"]
        assert [message.hex() for message in found] == plain(output["messages"])
        if closed is None:
            check(vector, "ok" if whole else "incomplete")
        else:
            check(vector, "close")
            assert output["at"] <= closed <= output.get("latest", output["at"])


def _received(stream: bytes, most: int) -> tuple[list[bytes], int | None, bool]:
    """The messages, after how many bytes the connection must end, and whether no message was begun."""
    assembler = rpc.MessageAssembler()
    found: list[bytes] = []
    at = 0
    while at < len(stream):
        room = assembler.buffer()
        part = stream[at : at + min(len(room), most)]
        room[: len(part)] = part
        at += len(part)
        try:
            message = assembler.received(len(part))
        except MalformedMessage:
            return found, at, False
        if message is not None:
            found.append(bytes(message))
    return found, None, assembler.idle


# RPC


@cases("rpc")
def test_rpc(vector: Json) -> None:
    """Replies whole; of calls what `proto` judges. The answers of a server are in test_served.py."""
    message = data_of(vector["input"]["message"])
    if vector["input"]["direction"] == "reply":
        _reply_header(vector, message)
        return
    try:
        header, _ = rpc.decode_call(message)
    except MalformedMessage:
        check(vector, "close")
        return
    if vector["valid"]:
        check(vector, "ok", {"xid": header.xid, "procedure": header.proc})
    else:
        assert vector["outcome"] != "close", vector["about"]
        assert header.xid == int.from_bytes(data_of(vector["output"]["reply"])[:4], "big")


def _reply_header(vector: Json, message: bytes) -> None:
    try:
        xid = rpc.reply_xid(message)
        results = rpc.decode_reply(message)
    except MalformedMessage:
        check(vector, "malformed-reply")
    except RpcRefused as error:
        found: Json = {"xid": xid}
        match error.result:
            case rpc.ProgramMismatch(low, high):
                found |= {"error": "PROG_MISMATCH", "low": low, "high": high}
            case rpc.Mismatch(low, high):
                found |= {"error": "RPC_MISMATCH", "low": low, "high": high}
            case rpc.AuthStatus():
                found |= {"error": "AUTH_ERROR", "auth_stat": int(error.result)}
            case rpc.AcceptStatus():
                found |= {"error": error.result.name}
        check(vector, "refused", found)
    else:
        check(vector, "ok", {"xid": xid, "results": bytes(results).hex()})


# Messages

PROCEDURES = {procedure.name: procedure for procedure in messages.PROCEDURES.values()}


@cases("message")
def test_messages(vector: Json) -> None:
    given = vector["input"]
    data = data_of(given["bytes"])
    if given["procedure"] == "NULL":  # neither arguments nor results: a server looks at the length alone
        check(vector, "garbage-args" if data else "ok")
        return
    procedure = PROCEDURES[given["procedure"]]
    if given["direction"] == "call":
        _call(vector, procedure, data)
    else:
        _reply(vector, procedure, data)


def _call(vector: Json, procedure: Any, data: bytes) -> None:
    accepted = ("garbage-args", "invalid") if vector["outcome"] == "refused" else (vector["outcome"],)
    try:
        arguments = procedure.decode_arguments(data)
    except ValueError:
        assert "garbage-args" in accepted, vector["about"]
        return
    try:
        messages.check_arguments(arguments)
    except ValueError:
        assert "invalid" in accepted, vector["about"]
        return
    if "range" in vector.get("flags", ()):  # `proto` leaves this rule to the server: test_served.py
        return
    check(vector, "ok", {"arguments": described(arguments) or {}})
    assert procedure.encode_call(7, arguments)[44:] == data


def _reply(vector: Json, procedure: Any, data: bytes) -> None:
    try:
        result = procedure.decode_result(data)
    except MalformedMessage:
        check(vector, "malformed-reply")
        return
    except StatusError as error:
        status: Any = error.status
        check(vector, "status", {"status": status.name})
        result = status
    else:
        check(vector, "ok", {"status": "OK", "result": described(result)})
    assert b"".join(procedure.encode_result(result)) == data


LONG_FIELDS = {"first", "offset", "size", "seconds"}
"""Of 64 bits, and so decimal strings; a hole's `first` has 32."""


def described(value: Any, name: str = "", within: str = "") -> Any:
    """A decoded message as vectors have it."""
    match value:
        case FileNode(executable, content):
            return {"type": 1, "executable": executable, "content": content.hex()}
        case LinkNode(target):
            return {"type": 2, "target": target.hex()}
        case DirectoryNode():
            return {"type": 3}
    if dataclasses.is_dataclass(value):
        kind = type(value).__name__
        return {
            field.name: described(getattr(value, field.name), field.name, kind) for field in dataclasses.fields(value)
        }
    match value:
        case bool() | None:
            return value
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case tuple():
            return [described(item) for item in value]
    return str(int(value)) if name in LONG_FIELDS and within != "Hole" else int(value)


# Slices


@cases("slice")
def test_slices(vector: Json) -> None:
    given = vector["input"]
    shape = tree.Shape(int(given["size"]), given["unit_log2"])
    size, total = 1 << slices.slice_log2(shape), slices.slice_count(shape)
    if given["of"] == "count":
        check(vector, "ok", {"slice": size, "per_unit": shape.unit_size // size, "slices": str(total)})
        return
    first, count = int(given["first"]), int(given["count"])
    if given["of"] == "range":
        if not 0 < count <= total or first > total - count:
            check(vector, "invalid")
            return
        units, span = (
            slices.units_of_slices(shape, first, first + count),
            slices.slice_span(shape, first, first + count),
        )
        output = {
            "units": dict(zip(("first", "end"), map(str, units), strict=True)),
            "bytes": dict(zip(("start", "stop"), map(str, span), strict=True)),
        }
        check(vector, "ok", output)
        return
    holes = tuple(messages.Hole(hole["first"], hole["count"]) for hole in given["holes"])
    try:
        found = pieces(shape, first, first + count, messages.ReadOk(b"", holes, bytes(given["data"])))
    except MalformedMessage:
        check(vector, "malformed")
        return
    check(vector, "ok")
    assert (
        sum(piece if isinstance(piece, int) else len(piece) for piece in found)
        == slices.slice_span(shape, first, first + count)[1]
    )


# The worked example


@cases("example")
def test_the_worked_example(vector: Json) -> None:
    step, given, gives = vector["input"]["step"], data_of(vector["input"]["from"]), data_of(vector["output"]["gives"])
    sha256 = hash_by_number(1)
    if step in ("content", "statement", "certificate"):
        assert gives == sha256.digest(given)
    elif step.startswith("leaf"):
        assert gives == sha256.leaf(given)
    elif step in ("node-1-0", "root"):
        assert gives == sha256.node(given[:32], given[32:])
    elif step == "signed":
        key = x509.parse_certificate(certificates()["example"]).public_key
        signature.check_signature(signature.scheme_by_number(0x0807), key, gives, given)
        record = decode_record(_example("record"))
        signer = Fingerprint(1, _example("certificate"))
        assert given == signed_bytes(signer, 0x0807, record.statement)
    elif step == "record":
        record = decode_record(gives)
        assert [attestation.body for attestation in record.attestations] == [given]
    else:
        assert step == "proof"
        folded = proof.fold(sha256, 3, 1, [sha256.leaf(given)], 2, proof.split_hashes(gives, 32))
        assert folded.top == _example("root")


def _example(step: str) -> bytes:
    return next(data_of(one["output"]["gives"]) for one in load("example")["vectors"] if one["input"]["step"] == step)
