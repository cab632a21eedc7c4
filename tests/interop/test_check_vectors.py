# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The verifier in C runs the test vectors of verification that it can be told of on its command line.

It pins signers without limits, accepts all that it knows, has its marks in a file, and gets to know what is revoked
from revocations only: so where a vector has revoked items, a signer of ours, pinned beside, revokes them first.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from oracle import merkle, records, signers, volumes
from vectors.form import unpacked

from .building import SPEC
from .test_check import pem

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

Json = dict[str, Any]
NO_LIMITS = {"ca": False, "subject": None, "volumes": [], "prefixes": [], "schemes": [], "signers": 1}
NOT_KNOWN = ("needs-hash-blake3", "needs-scheme-ml-dsa")
PINS_MAX = 8


@cache
def load(name: str) -> list[Json]:
    found: list[Json] = json.loads((SPEC / "vectors" / f"{name}.json").read_text())[
        "certificates" if name == "certificates" else "vectors"
    ]
    return found


@cache
def certificates() -> dict[str, bytes]:
    return {one["name"]: unpacked(one["der"]) for one in load("certificates")}


def can_be_told(vector: Json) -> bool:
    given = vector["input"]
    told = given["record"] is not None and given["accepted"] is None and given["read"] is None
    told = told and given["volumes"] is not None and len(given["volumes"]) == 1
    told = told and 0 < len(given["trust"]) < PINS_MAX
    told = told and all(entry == NO_LIMITS | {"anchor": entry["anchor"]} for entry in given["trust"])
    told = told and not any(flag.startswith(NOT_KNOWN) for flag in vector.get("flags", ()))
    told = told and all(certificates()[entry["anchor"]] for entry in given["trust"])  # no bytes are not in PEM
    if given["wanted"] == records.REVOCATION:
        return bool(told and given["revoked"] == {"items": [], "accepted": []})
    told = told and given["content"] is not None and not given["revoked"]["accepted"]
    return bool(told) and b"\0" not in unpacked(given["path"])


TOLD = [vector for vector in load("verification") if can_be_told(vector)]


def test_enough_can_be_told() -> None:
    marked = [vector["outcome"] for vector in TOLD if vector["input"]["marks"]]
    assert len(marked) > 25
    assert {"verified", "rollback", "equivocation", "wrong-kind"} <= set(marked)
    with_revocations = [vector for vector in TOLD if "revocations" in vector.get("flags", ())]
    assert len(TOLD) > 300
    assert {vector["input"]["wanted"] for vector in with_revocations} == {records.FILE, records.REVOCATION}
    assert {vector["outcome"] for vector in with_revocations} > {"verified", "revoked", "unsupported", "record-expired"}


@pytest.mark.spec("fim-ver-4", "fim-rev-3", "fim-rev-4", "fim-kind-3", "fim-mark-6", "fim-mark-8", "fim-head-2")
def test_the_vectors(programs: Path, tmp_path: Path) -> None:
    """All in one test: each is a short run of the program."""
    different = [
        f"{vector['id']}: {found} instead of {vector['outcome']}"
        for vector in TOLD
        if (found := verdict(programs / "check", tmp_path, vector["input"])) != vector["outcome"]
    ]
    assert different == []


def line_of(mark: Json, pins: list[bytes]) -> str:
    """As the program keeps it."""
    key = x509.load_der_x509_certificate(certificates()[mark["signer"]]).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    words = [hashlib.sha256(pins[mark["entry"]]).hexdigest(), mark["volume"], mark["kind"], mark["path"] or "-"]
    words += [spki.hex(), mark["generation"], mark["tag"]["hash"], mark["tag"]["digest"]]
    return " ".join(map(str, words)) + "\n"


def verdict(program: Path, folder: Path, given: Json) -> str:
    is_revocation = given["wanted"] == records.REVOCATION
    pins = [certificates()[entry["anchor"]] for entry in given["trust"]]
    record, revocations, content = unpacked(given["record"]), [], b""
    if is_revocation:
        revocations, record = [record], b""
    elif given["revoked"]["items"]:
        items = [(one["what"], one["hash"], unpacked(one["digest"])) for one in given["revoked"]["items"]]
        volume = unpacked(given["volumes"][0])
        ours = signers.signer(name="beside")
        statement = records.Statement(kind=records.REVOCATION, volume=volume, issued=0, items=items)
        revocations, pins = [signers.signed(statement, ours)], [*pins, ours.der]
    if not is_revocation:
        content = unpacked(given["content"])
    for name, data in (("record", record), ("content", content), ("pins", b"".join(map(pem, pins)))):
        (folder / name).write_bytes(data)
    names = [folder / f"revocation-{at}" for at in range(len(revocations))]
    for path, data in zip(names, revocations, strict=True):
        path.write_bytes(data)
    (folder / "marks").write_text("".join(line_of(mark, pins) for mark in given["marks"]))
    words: list[str | Path | bytes] = [program, "-m", folder / "marks", folder / "record", folder / "content"]
    words.append(given["volumes"][0])
    words += [unpacked(given["path"]), folder / "pins", given["now"], *names]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    *judged, last = done.stdout.split()
    if is_revocation:
        return judged[0]
    assert judged == ["verified"] * len(revocations)
    return last


def exported_verdict(program: Path, folder: Path, given: Json) -> str:
    """Of a member vector: under its head, signed by a signer of ours; of an exported one as it is."""
    if given["of"] == "exported":
        data, pin, now = unpacked(given["bytes"]), certificates()[given["pin"]], given["now"]
        volume, revocations = given["volume"], []
    else:
        ours = signers.signer(name="beside")
        head, pin, now = unpacked(given["head"]), ours.der, str(signers.NOW)
        data = volumes.exported(unpacked(given["record"]), signers.signed(head, ours))
        volume = head[16:32].hex()
        items = [(one["what"], one["hash"], unpacked(one["digest"])) for one in given["revoked"]]
        statement = records.Statement(kind=records.REVOCATION, volume=head[16:32], issued=0, items=items)
        revocations = [signers.signed(statement, ours)] if items else []
    (folder / "exported").write_bytes(data)
    (folder / "pin").write_bytes(pem(pin))
    words: list[str | Path | bytes] = [program, folder / "exported", "-", volume, unpacked(given["path"])]
    words += [folder / "pin", now]
    for at, revocation in enumerate(revocations):
        (folder / f"revocation-{at}").write_bytes(revocation)
        words.append(folder / f"revocation-{at}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.stdout.split()[-1]


def shown(program: Path, folder: Path, given: Json) -> list[str]:
    """What the program says of a range vector: the outcome, and what is in it."""
    files = []
    for at, data in enumerate(given["ranges"] if given["of"] == "list" else [given.get("range", given.get("bytes"))]):
        (folder / f"range-{at}").write_bytes(unpacked(data))
        files.append(folder / f"range-{at}")
    words: list[str | Path] = [program, given["of"]]
    if given["of"] != "entry":
        words += [str(given["hash"]), given["entries"], given["root"]]
    if given["of"] in ("at", "list"):
        words.append(given["path" if given["of"] == "at" else "parent"])
    done = subprocess.run([*words, *files], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.stdout.split()


def due(vector: Json) -> list[str]:
    """The same by the vector."""
    if not vector["valid"]:
        return [vector["outcome"]]
    output = vector["output"]
    match vector["input"]["of"]:
        case "entry":
            return ["ok", output["leaf"]]
        case "at":
            entry = output["entry"]
            return ["ok", "none" if entry is None else leaf_of(vector["input"]["hash"], entry)]
        case "list":
            return ["ok", *output["names"]]
    return ["ok"]


def leaf_of(hash: int, entry: Json) -> str:
    node = entry["node"]
    found = volumes.Entry(
        unpacked(entry["parent"]), unpacked(entry["name"]), node["type"],
        int(node.get("executable", False)), unpacked(node.get("content", node.get("target", ""))),
    )  # fmt: skip
    return merkle.HASHES[hash][1](b"\0" + found.encode()).hex()


@pytest.mark.spec("fim-vol-1", "fim-vol-2", "fim-range-1", "fim-range-2", "fim-range-3", "fim-range-4", "fim-dec-1")
def test_entries_and_ranges(programs: Path, tmp_path: Path) -> None:
    told = [one for one in load("range") if not any(flag.startswith(NOT_KNOWN) for flag in one.get("flags", ()))]
    assert {vector["input"]["of"] for vector in told} == {"entry", "range", "at", "list"}
    assert len(told) > 250
    different = [
        f"{vector['id']}: {found} instead of {due(vector)}"
        for vector in told
        if (found := shown(programs / "shown", tmp_path, vector["input"])) != due(vector)
    ]
    assert not different, different


def is_record(given: Json) -> bool:
    """What the program takes for a record (fim-export-3), and does not decode as a fim_exported."""
    return given["of"] == "exported" and unpacked(given["bytes"])[4:8] == b"NFSV"


@pytest.mark.spec("fim-member-1", "fim-export-1", "fim-export-2", "fim-export-3", "fim-rec-9")
def test_members_of_volumes(programs: Path, tmp_path: Path) -> None:
    told = [
        vector
        for vector in load("member")
        if not any(flag.startswith(NOT_KNOWN) for flag in vector.get("flags", ()))
        and vector["input"].get("accepted") is None
        and vector["input"].get("record", "") is not None
        and not is_record(vector["input"])
    ]
    assert len(told) > 45
    different = [
        f"{vector['id']}: {found} instead of {vector['outcome']}"
        for vector in told
        if (found := exported_verdict(programs / "check", tmp_path, vector["input"])) != vector["outcome"]
    ]
    assert different == []
