# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The NFSv4.2 draft: its XDR as C code, its tables of operations, errors and numbers, and its figures.

What all drafts have in common is in `test_drafts.py`. No program here speaks NFSv4.2, so what the draft asks of
servers and clients is not tried; `untested_nfsv42.toml` says why, and is held in step with the draft here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import struct
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from nfsverity_proto.entry import DirectoryNode, Entry, FileNode, encode_entry
from nfsverity_proto.messages import PROCEDURES, Status
from nfsverity_proto.proof import proof_length
from nfsverity_proto.tree import Shape

HERE = Path(__file__).resolve().parent
SPEC = HERE.parents[1] / "spec"
DRAFT = SPEC / "draft-nfsverity-nfsv42-file-integrity-00.xml"
PRELUDE = (HERE / "nfsv4_prelude.x").read_text()
ROOT = ElementTree.parse(DRAFT).getroot()
NEW_OPERATIONS = (
    *("INTEGRITY_TREE", "INTEGRITY_PROOF", "READ_INTEGRITY"),
    *("INTEGRITY_CERTIFICATE", "INTEGRITY_ENTRIES"),
)


def text_of(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def anchored(anchor: str) -> ElementTree.Element:
    found = ROOT.find(f".//*[@anchor='{anchor}']")
    assert found is not None, anchor
    return found


def table(anchor: str) -> list[list[str]]:
    return [[text_of(cell) for cell in row.findall("td")] for row in anchored(anchor).iterfind("tbody/tr")]


def sentences() -> dict[str, str]:
    return {t.attrib["anchor"]: text_of(t) for t in ROOT.iter("t") if t.attrib.get("anchor", "").startswith("fin-")}


def fin_x() -> str:
    """As the draft has it extracted, and not as `spec/build.py` does."""
    return subprocess.run(
        ["sed", "-n", "-e", "s:^ */// ::p", "-e", "s:^ *///$::p", DRAFT.with_suffix(".txt")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def numbers(source: str) -> dict[str, int]:
    """Constants and values of enumerations."""
    return {name: int(value, 0) for name, value in re.findall(r"\b(\w+) = (0x[0-9a-f]+|\d+)", source)}


def additions(name: str) -> str:
    """The lines that the draft adds to an enumeration or a union of NFSv4.2."""
    return (anchored(f"merge-{name}").text or "").strip("\n")


ERRORS = {
    name
    for name in numbers(PRELUDE) | numbers(additions("nfsstat4"))
    if name.startswith("NFS4ERR_") or name == "NFS4_OK"
}
OPERATIONS = {
    name.removeprefix("OP_") for name in numbers(PRELUDE) | numbers(additions("nfs_opnum4")) if name.startswith("OP_")
}


# The text


def test_every_normative_sentence_has_an_id_of_its_own() -> None:
    normative = {element for element in ROOT.iter() if element.find("bcp14") is not None}
    assert {element.tag for element in normative} == {"t"}
    assert {element.attrib.get("anchor") for element in normative} == set(sentences())
    for anchor, sentence in sentences().items():
        assert re.search(rf"[.:] \({anchor}\)$", sentence), anchor
        assert sentence.count("(fin-") == 1, anchor


def test_the_ids_of_a_group_are_numbered_without_a_gap() -> None:
    groups: dict[str, list[int]] = {}
    for anchor in sentences():
        group, _, number = anchor.rpartition("-")
        groups.setdefault(group, []).append(int(number))
    assert groups
    for group, found in groups.items():
        assert found == list(range(1, len(found) + 1)), group


def test_what_is_untested_says_why() -> None:
    """Each id is in one group, and each pattern has ids."""
    groups = tomllib.loads((HERE / "untested_nfsv42.toml").read_text())["untested"]
    patterns = [pattern for group in groups for pattern in group["ids"]]
    for anchor in sentences():
        assert len([pattern for pattern in patterns if fnmatch.fnmatchcase(anchor, pattern)]) == 1, anchor
    for pattern in patterns:
        assert fnmatch.filter(sentences(), pattern), pattern
    assert all(len(group["reason"]) > 20 for group in groups)


# Names and numbers


def test_the_draft_names_only_errors_and_operations_that_exist() -> None:
    text = " ".join(ROOT.itertext())
    assert set(re.findall(r"\bNFS4ERR_[A-Z0-9_]+", text)) - ERRORS == set()
    assert {name.removeprefix("OP_") for name in re.findall(r"\bOP_[A-Z_]+", text)} - OPERATIONS == set()


def test_the_valid_errors_are_sorted_and_fit_the_operation() -> None:
    rows = {operation: errors.split(", ") for operation, errors in table("valid-table")}
    assert tuple(rows) == NEW_OPERATIONS
    every = {"NFS4ERR_BADXDR", "NFS4ERR_NOTSUPP", "NFS4ERR_NOFILEHANDLE", "NFS4ERR_DELAY", "NFS4ERR_TOO_MANY_OPS"}
    for operation, errors in rows.items():
        assert errors == sorted(set(errors)), operation
        assert every | {"NFS4ERR_OP_NOT_IN_SESSION", "NFS4ERR_INVAL"} <= set(errors) <= ERRORS
        names_a_tag = operation != "INTEGRITY_CERTIFICATE"
        assert ({"NFS4ERR_INTEGRITY_CHANGED", "NFS4ERR_INTEGRITY_ALG", "NFS4ERR_ACCESS"} <= set(errors)) == names_a_tag
        assert ("NFS4ERR_BAD_STATEID" in errors) == (operation == "READ_INTEGRITY")
        assert ("NFS4ERR_NOENT" in errors) == (operation in ("INTEGRITY_CERTIFICATE", "INTEGRITY_ENTRIES"))
        assert ("NFS4ERR_NOTDIR" in errors) == (operation == "INTEGRITY_ENTRIES")
        of_a_file = operation in ("INTEGRITY_TREE", "INTEGRITY_PROOF", "READ_INTEGRITY")
        assert ({"NFS4ERR_ISDIR", "NFS4ERR_WRONG_TYPE"} <= set(errors)) == of_a_file


def test_the_order_of_errors_names_those_of_the_tables() -> None:
    allowed = {error for _, errors in table("valid-table") for error in errors.split(", ")}
    for item in anchored("new-errors").iterfind("ol/li"):
        assert set(re.findall(r"NFS4ERR_\w+", text_of(item))) <= allowed
    of_entries = set(dict(table("valid-table"))["INTEGRITY_ENTRIES"].split(", "))
    ordered = set(re.findall(r"NFS4ERR_\w+", sentences()["fin-error-4"]))
    assert ordered <= of_entries
    of_others = set(dict(table("valid-table"))["INTEGRITY_CERTIFICATE"].split(", "))
    assert of_entries - of_others <= ordered


def test_the_effects_are_those_of_existing_operations() -> None:
    named = {name for operation, *_ in table("effect-table") for name in re.findall(r"\b[A-Z_]{4,}\b", operation)}
    assert named - OPERATIONS == set()
    assert named >= {
        *(
            "OPEN",
            "SETATTR",
            "WRITE",
            "WRITE_SAME",
            "ALLOCATE",
            "DEALLOCATE",
            "COPY",
            "CLONE",
            "LINK",
            "RENAME",
            "REMOVE",
        ),
        *("LAYOUTCOMMIT", "SETXATTR", "REMOVEXATTR"),
    }


def test_every_status_of_the_other_protocol_has_a_counterpart() -> None:
    kept = {Status.READ_ONLY, Status.EXISTS, Status.CONFLICT, Status.NO_SPACE, Status.REFUSED}
    assert [status for status, _ in table("mapping-table")] == [status.name for status in Status if status not in kept]


def test_every_procedure_of_the_other_protocol_has_a_counterpart() -> None:
    rows = table("procedure-table")
    assert [procedure for procedure, _ in rows] == [procedure.name for procedure in PROCEDURES.values()]
    used = {name for _, counterpart in rows for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", counterpart)}
    assert used - OPERATIONS == {"COMPOUND"}
    assert used >= set(NEW_OPERATIONS)
    attributes = {name for name, *_ in table("attribute-table")}
    assert {name for _, counterpart in rows for name in re.findall(r"\bintegrity_\w+", counterpart)} <= attributes


def test_every_number_is_given_once() -> None:
    rows = table("number-table")
    assert [tbd for _, _, tbd, _ in rows] == [f"TBD{number}" for number in range(1, len(rows) + 1)]
    assert len({(kind, value) for kind, _, _, value in rows}) == len(rows)
    lines = fin_x() + additions("nfs_opnum4") + additions("nfsstat4")
    declared = numbers(lines)
    for kind, name, tbd, value in rows:
        assert declared[name] == int(value)
        assert re.search(rf"\b{name} = {value}[;,] +/\* {tbd} \*/", lines), name
        assert int(value) not in numbers(PRELUDE).values() or kind == "attribute"
    prefixes = ("FATTR4_", "OP_", "NFS4ERR_")
    assert {name for name in declared if name.startswith(prefixes)} == {name for _, name, _, _ in rows}


def test_every_attribute_has_a_row_a_type_and_a_number() -> None:
    rows = table("attribute-table")
    assert [f"FATTR4_{name.upper()}" for name, *_ in rows] == [
        name for kind, name, _, _ in table("number-table") if kind == "attribute"
    ]
    for name, of, *_ in rows:
        assert re.search(rf"^typedef {re.sub('<.*', '', of)} +fattr4_{name}(<64>)?;", fin_x(), re.MULTILINE), name


def test_the_x_file_is_what_the_text_gives() -> None:
    assert (SPEC / "fin.x").read_text() == fin_x()


# The XDR as C


def compile_x(folder: Path, name: str) -> None:
    """rpcgen's header and codec of one .x file. Whatever rpcgen says is a fault."""
    for option, suffix in (("-h", ".h"), ("-c", "_xdr.c")):
        done = subprocess.run(
            ["rpcgen", "-C", option, "-o", f"{name}{suffix}", f"{name}.x"], cwd=folder, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def compile_c(folder: Path, *arguments: str) -> None:
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libtirpc"], capture_output=True, text=True, check=True
    ).stdout.split()
    # rpcgen declares a buffer in every routine, and uses it in some
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-Wno-cast-function-type"]
    done = subprocess.run(["gcc", *warnings, *arguments, *flags], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def merged_x() -> str:
    """One file, as section "Extraction" says, with the additions to enumerations and unions."""
    types, unions = PRELUDE.split("union nfs_argop4", 1)
    unions = "union nfs_argop4" + unions
    for name in ("nfs_opnum4", "nfsstat4"):
        types = types.replace(f"enum {name} {{", f"enum {name} {{\n{additions(name)}", 1)
    for name, discriminant in (("nfs_argop4", "argop"), ("nfs_resop4", "resop")):
        head = f"union {name} switch (nfs_opnum4 {discriminant}) {{"
        assert head in unions
        unions = unions.replace(head, f"{head}\n{additions(name)}", 1)
    own = "\n".join(line for line in fin_x().splitlines() if not line.startswith("%"))
    return "\n".join([(SPEC / "fim.x").read_text(), types, own, unions])


@pytest.fixture(scope="module")
def roundtrip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    (folder / "merged.x").write_text(merged_x())
    compile_x(folder, "merged")
    compile_c(folder, "-I.", "merged_xdr.c", str(HERE / "nfsv42_roundtrip.c"), "-o", "roundtrip")
    return folder / "roundtrip"


def run(roundtrip: Path, of: str, data: bytes) -> bytes | None:
    """The value decoded and encoded again; None if it is not one of the type."""
    done = subprocess.run([roundtrip, of], input=data, capture_output=True)
    assert done.returncode in (0, 1), done
    return done.stdout if done.returncode == 0 else None


@pytest.mark.tool("rpcgen", "gcc", "pkg-config", library="libtirpc")
def test_the_x_file_compiles_beside_those_it_uses(tmp_path: Path) -> None:
    (tmp_path / "fim.x").write_text((SPEC / "fim.x").read_text())
    (tmp_path / "nfsv42.x").write_text(PRELUDE)
    (tmp_path / "fin.x").write_text(fin_x())
    for name in ("fim", "nfsv42", "fin"):
        compile_x(tmp_path, name)
        compile_c(tmp_path, "-I.", "-c", f"{name}_xdr.c")


def uint(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def hyper(value: int) -> bytes:
    return struct.pack(">Q", value)


def opaque(data: bytes) -> bytes:
    return uint(len(data)) + data + bytes(-len(data) % 4)


OPNUM = numbers(additions("nfs_opnum4"))
DIGEST = hashlib.sha256(b"").digest()
TAG = uint(1) + opaque(DIGEST)
UNIT = 65536
SHAPE = Shape(2 * UNIT + 5, 16)
EXAMPLES = {
    "example-state": ("fattr4", uint(7, 0, 0, 0, 0, 0, 0, 1 << 193 % 32) + opaque(uint(0, 1) + DIGEST)),
    "example-proof": ("nfs_argop4", uint(OPNUM["OP_INTEGRITY_PROOF"]) + TAG + uint(SHAPE.height) + hyper(1) + uint(1)),
    "example-read": (
        "nfs_argop4",
        uint(OPNUM["OP_READ_INTEGRITY"], 1) + b"\x5a" * 12 + TAG + hyper(UNIT) + uint(2 * UNIT, 1, SHAPE.height),
    ),
    "example-result": (
        "nfs_resop4",
        uint(OPNUM["OP_READ_INTEGRITY"], 0)
        + opaque(b"\xaa" * 32 * proof_length(SHAPE.units, 1, 3, SHAPE.height))
        + uint(1)
        + hyper(UNIT)
        + hyper(UNIT)
        + opaque(b"hello"),
    ),
    "example-entries": (
        "nfs_argop4",
        uint(OPNUM["OP_INTEGRITY_ENTRIES"]) + TAG + opaque(b"bin") + opaque(b"ls") + uint(2, 32768),
    ),
    "example-range": (
        "nfs_resop4",
        uint(OPNUM["OP_INTEGRITY_ENTRIES"], 0)
        + hyper(0)
        + uint(2)
        + encode_entry(Entry(b"", b"bin", DirectoryNode()))
        + encode_entry(Entry(b"bin", b"ls", FileNode(executable=True, content=DIGEST)))
        + opaque(b""),
    ),
}


@pytest.mark.parametrize("anchor", EXAMPLES)
def test_the_examples_are_what_the_text_says(anchor: str) -> None:
    dump = "".join(line[:38].replace(" ", "") for line in (anchored(anchor).text or "").splitlines())
    assert bytes.fromhex(dump) == EXAMPLES[anchor][1]


@pytest.mark.tool("rpcgen", "gcc", "pkg-config", library="libtirpc")
@pytest.mark.parametrize("anchor", EXAMPLES)
def test_c_decodes_and_encodes_the_examples(roundtrip: Path, anchor: str) -> None:
    of, data = EXAMPLES[anchor]
    assert run(roundtrip, of, data) == data
    assert run(roundtrip, of, data[:-4]) is None
    assert run(roundtrip, of, data + bytes(4)) is None


def result(operation: str, body: bytes) -> bytes:
    return uint(OPNUM[operation], 0) + body


ENTRY = encode_entry(Entry(b"", b"e", DirectoryNode()))
BOUNDS = {
    "volume": ("fattr4_integrity_volume", uint(64) + opaque(b"r") * 64, uint(65) + opaque(b"r") * 65),
    "head": ("fattr4_integrity_volume", uint(1) + opaque(bytes(65536)), uint(1) + opaque(bytes(65537))),
    "statements": ("fattr4_integrity_content", uint(64) + opaque(b"s") * 64, uint(65) + opaque(b"s") * 65),
    "statement": ("fattr4_integrity_content", uint(1) + opaque(bytes(8192)), uint(1) + opaque(bytes(8193))),
    "volume state": ("fattr4_integrity_volume_state", uint(0, 64) + DIGEST * 64, uint(0, 65) + DIGEST * 65),
    "parent": (
        "nfs_argop4",
        uint(OPNUM["OP_INTEGRITY_ENTRIES"]) + TAG + opaque(b"d" * 4095) + opaque(b"") + uint(2, 32768),
        uint(OPNUM["OP_INTEGRITY_ENTRIES"]) + TAG + opaque(b"d" * 4096) + opaque(b"") + uint(2, 32768),
    ),
    "name": (
        "nfs_argop4",
        uint(OPNUM["OP_INTEGRITY_ENTRIES"]) + TAG + opaque(b"") + opaque(b"n" * 255) + uint(2, 32768),
        uint(OPNUM["OP_INTEGRITY_ENTRIES"]) + TAG + opaque(b"") + opaque(b"n" * 256) + uint(2, 32768),
    ),
    "entries": (
        "nfs_resop4",
        result("OP_INTEGRITY_ENTRIES", hyper(0) + uint(1024) + ENTRY * 1024 + opaque(b"")),
        result("OP_INTEGRITY_ENTRIES", hyper(0) + uint(1025) + ENTRY * 1025 + opaque(b"")),
    ),
    "digests": ("fattr4_integrity_state", uint(0, 64) + DIGEST * 64, uint(0, 65) + DIGEST * 65),
    "records": ("fattr4_integrity_records", uint(64) + opaque(b"r") * 64, uint(65) + opaque(b"r") * 65),
    "record": ("fattr4_integrity_records", uint(1) + opaque(bytes(65536)), uint(1) + opaque(bytes(65537))),
    "hashes": (
        "fattr4_integrity_support",
        uint(15, 64, 131072, 65536, 32, *range(32), 1, 1),
        uint(0, 0, 0, 0, 33, *range(33), 0),
    ),
    "tag": (
        "nfs_argop4",
        uint(OPNUM["OP_INTEGRITY_TREE"], 8) + opaque(bytes(64)) + uint(0, 0, 0, 1),
        uint(OPNUM["OP_INTEGRITY_TREE"], 8) + opaque(bytes(65)) + uint(0, 0, 0, 1),
    ),
    "tree": (
        "nfs_resop4",
        result("OP_INTEGRITY_TREE", opaque(bytes(65536 * 64))),
        result("OP_INTEGRITY_TREE", opaque(bytes(65536 * 64 + 1))),
    ),
    "proof": (
        "nfs_resop4",
        result("OP_INTEGRITY_PROOF", opaque(bytes(8192))),
        result("OP_INTEGRITY_PROOF", opaque(bytes(8193))),
    ),
    "holes": (
        "nfs_resop4",
        result("OP_READ_INTEGRITY", uint(0, 256) + bytes(16 * 256) + opaque(b"")),
        result("OP_READ_INTEGRITY", uint(0, 257) + bytes(16 * 257) + opaque(b"")),
    ),
    "certificates": (
        "nfs_resop4",
        result("OP_INTEGRITY_CERTIFICATE", uint(8) + opaque(bytes(16384)) * 8),
        result("OP_INTEGRITY_CERTIFICATE", uint(9) + opaque(b"c") * 9),
    ),
}


@pytest.mark.tool("rpcgen", "gcc", "pkg-config", library="libtirpc")
@pytest.mark.parametrize("bound", BOUNDS)
def test_c_takes_what_is_at_a_bound_and_nothing_beyond(roundtrip: Path, bound: str) -> None:
    of, most, more = BOUNDS[bound]
    assert run(roundtrip, of, most) == most
    assert run(roundtrip, of, more) is None


@pytest.mark.tool("rpcgen", "gcc", "pkg-config", library="libtirpc")
def test_c_has_an_arm_for_every_new_operation_and_error(roundtrip: Path) -> None:
    for operation in OPNUM.values():
        for error in numbers(additions("nfsstat4")).values():
            data = uint(operation, error)
            assert run(roundtrip, "nfs_resop4", data) == data
    assert run(roundtrip, "nfs_resop4", uint(max(OPNUM.values()) + 1, 0)) is None


# The figures

RPC_REPLY = uint(7, 1, 0, 0, 0, 0)
"""RFC 5531: xid, REPLY, MSG_ACCEPTED, a verifier AUTH_NONE without a body, SUCCESS."""
SEQUENCE = uint(53, 0) + bytes(16) + uint(1, 0, 0, 0, 0)
PUTFH = uint(22, 0)


def compound(*results: bytes) -> bytes:
    return uint(0) + opaque(b"") + uint(len(results)) + b"".join(results)


NO_ENTRIES = hyper(0) + uint(0) + opaque(b"")
REPLIES = {
    "INTEGRITY_TREE": [result("OP_INTEGRITY_TREE", opaque(b""))],
    "INTEGRITY_PROOF": [result("OP_INTEGRITY_PROOF", opaque(b""))],
    "READ_INTEGRITY": [result("OP_READ_INTEGRITY", opaque(b"") + uint(0) + opaque(b""))],
    "INTEGRITY_ENTRIES": [result("OP_INTEGRITY_ENTRIES", NO_ENTRIES)],
    "READ, INTEGRITY_PROOF": [uint(25, 0, 0) + opaque(b""), result("OP_INTEGRITY_PROOF", opaque(b""))],
}


@pytest.mark.tool("rpcgen", "gcc", "pkg-config", library="libtirpc")
def test_the_sizes_of_replies_are_those_of_the_table(roundtrip: Path) -> None:
    rows = {operations: int(size.split()[0]) for operations, size in table("size-table")}
    assert set(rows) == set(REPLIES)
    for operations, results in REPLIES.items():
        reply = compound(SEQUENCE, PUTFH, *results)
        assert run(roundtrip, "COMPOUND4res", reply) == reply
        assert len(RPC_REPLY + reply) == rows[operations], operations


def figures(anchor: str) -> list[int]:
    """The numbers in a section's own paragraphs."""
    text = " ".join(text_of(t) for t in anchored(anchor).findall("t"))
    return [int(number.replace(",", "")) for number in re.findall(r"(?<![\w,-])\d[\d,]*(?![\w-])", text)]


def test_the_figures_about_sizes_follow_from_the_structures() -> None:
    overhead = len(RPC_REPLY + compound(SEQUENCE, PUTFH, *REPLIES["INTEGRITY_TREE"]))
    assert (1048576 - overhead) // 32 in figures("sizes")
    constants = numbers(fin_x())
    least = constants["INTEGRITY4_RESPONSE_MIN"]
    assert least in figures("sizes")
    assert least >= overhead + constants["INTEGRITY4_TREE_MIN"] * 64
    # GETATTR of integrity_records: operation, status, bitmap of 7 words, length of the values
    assert least >= overhead + len(uint(9, 0, 7, *[0] * 7, 0)) + constants["INTEGRITY4_LENGTH_MAX"]
    assert len(uint(0, 1) + DIGEST) in figures("state")


def test_two_entries_and_a_proof_fit_where_the_least_is_asked_for() -> None:
    """So that fin-entries-4 can be held."""
    constants = numbers(fin_x())
    least = constants["INTEGRITY4_RANGE_MIN"]
    path, link = b"/".join([b"d" * 255] * 16), opaque(b"t" * 4095)
    directory, _, name = path.rpartition(b"/")
    assert len(path) == 4095
    longest = opaque(directory) + opaque(name) + uint(2) + link
    assert len(hyper(0) + uint(2) + 2 * longest + opaque(bytes(8192))) < least
    assert f"{least:,}" in sentences()["fin-entries-2"]
    assert least in figures("op-entries")
    assert f"{constants['INTEGRITY4_ENTRIES_MAX']:,}" in sentences()["fin-entries-2"]
    empty = len(RPC_REPLY + compound(SEQUENCE, PUTFH, *REPLIES["INTEGRITY_ENTRIES"]))
    most = next(size for operations, size in table("size-table") if operations == "INTEGRITY_ENTRIES")
    assert most.endswith(f"at most {empty - len(NO_ENTRIES)} + V + ien_maxcount")


def test_the_bounds_in_the_text_are_those_of_the_x_file() -> None:
    constants = numbers(fin_x())
    bounds = {
        text_of(dt): text_of(dd)
        for dt, dd in zip(*(anchored("support").iter(tag) for tag in ("dt", "dd")), strict=True)
    }
    for name, least, most in (
        ("isu_max_records", 1, constants["INTEGRITY4_RECORDS_MAX"]),
        ("isu_max_length", constants["INTEGRITY4_LENGTH_MIN"], constants["INTEGRITY4_LENGTH_MAX"]),
        ("isu_max_hashes", constants["INTEGRITY4_TREE_MIN"], constants["INTEGRITY4_TREE_MAX"]),
    ):
        assert f"{least:,} to {most:,}" in bounds[name]
    declared = fin_x()
    assert f"integrity_record4<{constants['INTEGRITY4_RECORD_MAX']}>" in declared
    assert f"fattr4_integrity_records<{constants['INTEGRITY4_RECORDS_MAX']}>" in declared
    assert f"ist_digests<{constants['INTEGRITY4_RECORDS_MAX']}>" in declared
    assert f"rir_holes<{constants['INTEGRITY4_HOLES_MAX']}>" in declared
    assert f"itr_hashes<{constants['INTEGRITY4_TREE_MAX'] * 64}>" in declared
