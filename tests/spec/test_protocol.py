# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""File Integrity Protocol: each procedure is described whole, and every figure is computed here or is the code's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto import proof, rpc
from nfsverity_proto.statement import Time

from .drafts import SPEC, code, table, text_of

PROTOCOL = SPEC / "draft-nfsverity-file-integrity-protocol-00.xml"
ROOT = ElementTree.parse(PROTOCOL).getroot()
TEXT = text_of(ROOT)
XDR = (SPEC / "fip.x").read_text()
PROGRAM = re.findall(r"(\w+)\s+FIPPROC_(\w+)\((\w+)\) = (\d+);", XDR)
"""Result type, name, argument type, number."""
CONSTANTS = {name: int(value, 0) for name, value in re.findall(r"const FIP_(\w+) = (\w+);", XDR)}


def section(anchor: str) -> ElementTree.Element:
    found = ROOT.find(f".//section[@anchor='{anchor}']")
    assert found is not None, anchor
    return found


# Procedures


def test_the_program_has_the_procedures_of_the_code() -> None:
    assert [(name, int(number)) for _, name, _, number in PROGRAM] == [
        ("NULL", 0),
        *((procedure.name, number) for number, procedure in m.PROCEDURES.items()),
    ]


@pytest.mark.parametrize(("result", "name", "arguments", "number"), PROGRAM[1:], ids=[row[1] for row in PROGRAM[1:]])
def test_a_procedure_says_its_arguments_and_its_result(result: str, name: str, arguments: str, number: str) -> None:
    found = section(name.lower())
    assert text_of(next(found.iter("name"))) == f"{name} ({number})"
    expected = "none" if arguments == "void" else arguments
    assert f"Arguments: {expected}. Result: {result}." in text_of(found)


def test_what_holds_for_every_procedure_is_said() -> None:
    assert "Every procedure is idempotent" in text_of(section("procedures"))
    assert "All procedures are idempotent: none changes anything on the server." in text_of(section("calls"))
    known = {name for (name,) in (row[1:2] for row in table(PROTOCOL, "status-table"))}
    for name, statuses in table(PROTOCOL, "valid-table"):
        assert name == "NULL" or set(statuses.split(", ")) <= known, name
    assert [row[0] for row in table(PROTOCOL, "valid-table")] == [name for _, name, _, _ in PROGRAM]


def test_a_status_is_no_rpc_error() -> None:
    errors = {"PROG_UNAVAIL", "PROG_MISMATCH", "PROC_UNAVAIL", "GARBAGE_ARGS", "SYSTEM_ERR", "MSG_DENIED", "AUTH_ERROR"}
    statuses = set(re.findall(r"FIP_(\w+) = \d+[,\n]", XDR.split("enum fip_status")[1].split("}")[0]))
    assert not errors & statuses
    assert all(error in text_of(section("errors")) for error in errors)


# Figures


def test_the_constants_are_those_of_the_code() -> None:
    assert CONSTANTS == {
        "MESSAGE_MAX": rpc.MESSAGE_MAX,
        "FRAGMENTS_MAX": rpc.FRAGMENTS_MAX,
        "DATA_MAX": m.DATA_MAX,
        "BULK_MAX": m.BULK_MAX,
        "FETCH_MAX": m.FETCH_MAX,
        "TREE_MAX": m.TREE_MAX,
        "HANDLE_MAX": m.HANDLE_MAX,
        "PROOF_MAX": m.PROOF_MAX,
        "HOLES_MAX": m.HOLES_MAX,
        "ENTRIES_MAX": m.ENTRIES_MAX,
        "WAIT_MAX": m.WAIT_MAX,
        "POLLS_MAX": m.POLLS_MAX,
        "DATA_MIN": m.DATA_MIN,
        "HASHES_MIN": 4096,
        "CALLS_MIN": m.CALLS_MAX,
        "CAP_CORE": m.CAP_CORE,
        "CAP_DATA": m.CAP_DATA,
        "CAP_VOLUME": m.CAP_VOLUME,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MESSAGE_MAX", "longer than {:,} bytes (4 MiB + 64 KiB)"),
        ("FRAGMENTS_MAX", "more than {} fragments"),
        ("DATA_MAX", "if the slices asked for have more than {:,} bytes"),
        ("FETCH_MAX", "INVALID if most is above {:,}"),
        ("BULK_MAX", "INVALID if most is above {:,}, and return"),
        ("TREE_MAX", "to a count of zero or above {:,}."),
        ("ENTRIES_MAX", "to a count of zero or above {:,}."),
        ("DATA_MAX", "to a count of zero or above {:,}. (fip-plain-2)"),
        ("WAIT_MAX", "or wait is above {:,}"),
        ("DATA_MIN", "max_data from {:,} to"),
        ("HASHES_MIN", "max_hashes from {:,} to"),
        ("CALLS_MIN", "max_calls of at least {}"),
    ],
)
def test_a_bound_in_the_text_is_that_of_the_xdr(name: str, words: str) -> None:
    assert words.format(CONSTANTS[name]) in TEXT


def test_the_bounds_of_types_are_those_of_the_text() -> None:
    bounds = dict(re.findall(r"opaque (\w+)<(\d+)>", XDR))
    assert int(bounds["fip_handle"]) == CONSTANTS["HANDLE_MAX"] == 128
    assert "A handle is at most 128 bytes" in TEXT
    assert int(bounds["fip_proof"]) == CONSTANTS["PROOF_MAX"]
    assert int(bounds["hashes"]) == m.TREE_MAX * 64
    assert "256 holes suffice" in TEXT
    assert f"fip_hole holes<{CONSTANTS['HOLES_MAX']}>" in XDR
    assert "up to 8 certificates in all" in TEXT
    assert "fip_der certificates<8>" in XDR
    assert CONSTANTS["MESSAGE_MAX"] == 4 * 2**20 + 64 * 2**10


def test_the_longest_proof_fits() -> None:
    """Of any range of the largest tree, whose height is 51."""
    units, middle = 2**51, 2**50
    longest = proof.proof_length(units, middle - 1, middle + 1, 51)
    assert longest == 2 * 50
    assert "two hashes of 64 bytes at each of 51 levels are 6,528 bytes" in TEXT
    assert longest * 64 <= 2 * 51 * 64 == 6528 <= m.PROOF_MAX


# The worked exchange


def message(name: str) -> bytes:
    """A whole message of the appendix, without its mark."""
    data = bytes.fromhex("".join(line[:37] for line in code(PROTOCOL, "hex-dump")[f"example-{name}"].splitlines()))
    assert int.from_bytes(data[:4]) == 1 << 31 | len(data) - 4
    return data[4:]


@pytest.mark.parametrize(
    ("name", "procedure", "arguments"),
    [("limits", m.LIMITS, None), ("getattr", m.GETATTR, m.GetattrArgs(b""))],
    ids=["limits", "getattr"],
)
def test_the_calls_are_what_the_code_sends(name: str, procedure: m.Procedure, arguments: object) -> None:
    sent = message(f"{name}-call")
    call, body = rpc.decode_call(sent)
    assert (call.prog, call.vers, call.proc) == (m.PROGRAM, m.VERSION, procedure.number)
    assert procedure.decode_arguments(body) == arguments
    assert procedure.encode_call(call.xid, arguments)[4:] == sent


@pytest.mark.parametrize(
    ("name", "procedure", "ok"),
    [
        (
            "limits",
            m.LIMITS,
            m.LimitsOk(m.CAP_CORE | m.CAP_DATA, m.DATA_MIN, 4096, m.CALLS_MAX, m.WAIT_MAX, (1,), (1,)),
        ),
        ("getattr", m.GETATTR, m.Attributes(m.FileType.DIRECTORY, False, False, 0, Time(1_793_491_200, 0))),
    ],
    ids=["limits", "getattr"],
)
def test_the_replies_are_what_the_code_sends(name: str, procedure: m.Procedure, ok: object) -> None:
    sent = message(f"{name}-reply")
    assert procedure.decode_result(rpc.decode_reply(sent)) == ok
    parts = rpc.encode_reply(rpc.success(rpc.reply_xid(sent)), procedure.encode_result(ok))
    assert b"".join(bytes(part) for part in parts)[4:] == sent
    assert rpc.reply_xid(sent) == rpc.decode_call(message(f"{name}-call"))[0].xid


# Registries


def test_the_registries_begin_with_what_the_xdr_has() -> None:
    text = text_of(section("iana"))
    assert f"NULL (0) to {PROGRAM[-1][1]} ({PROGRAM[-1][3]})" in text
    assert "/* places kept: 15 to 18 */" in XDR
    assert "15 to 18, kept" in text
    numbers = {
        int(number) for number in re.findall(r"FIP_\w+ = (\d+)[,\n]", XDR.split("enum fip_status")[1].split("}")[0])
    }
    assert set(range(21)) - numbers == {14, 15}
    assert "14 and 15 are unassigned" in text
    assert f"bit 0 (value {CONSTANTS['CAP_CORE']}), CORE; bit 1 (value {CONSTANTS['CAP_DATA']}), DATA; " in text
    assert f"bit 2 (value {CONSTANTS['CAP_VOLUME']}), VOLUME" in text
    for policy in ("Standards Action", "Specification Required", "Private Use"):
        assert policy in text
