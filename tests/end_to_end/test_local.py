# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity verify` and `nfsverity show` for files on this machine: everything that is wrong, and exactly that."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

FILES = 6
UNIT = 65536


def verify(nfsverity: Any, path: Path, status: int = 1) -> dict[str, Any]:
    """The report on each file, by its path in the tree."""
    report = nfsverity.json("verify", str(path), status=status)
    return {file["path"] or file["path_base64"]: file for file in report["files"]}


def bad(files: dict[str, Any]) -> dict[str, str]:
    return {path: file["verdict"] for path, file in files.items() if file["verdict"] != "verified"}


def ranges(file: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(found["offset"]), int(found["length"])) for found in file["ranges"]]


def index_of(tree: Path) -> Path:
    (index,) = (tree / ".nfsverity").glob("index-*")
    return index


def test_a_good_tree(nfsverity: Any, alice: Any, signed: Path) -> None:
    report = nfsverity.json("verify", str(signed))
    assert (report["verified"], report["failed"], report["errors"]) == (FILES, 0, [])
    odd = next(file for file in report["files"] if file["path"] is None)
    assert base64.b64decode(odd["path_base64"]) == b"sub/caf\xe9"
    assert odd["file"].endswith("/sub/caf%E9")
    assert all(file["signers"][0]["fingerprint"] == alice.fingerprint for file in report["files"])


@pytest.mark.spec("fim-ver-10")
def test_the_report_for_people_names_volume_signer_and_generation(nfsverity: Any, signed: Path) -> None:
    shown = nfsverity.json("show", str(signed / "a.txt"))
    result = nfsverity("verify", signed)
    assert f"{FILES} files verified" in result.text
    expected = f'volume {shown["volume"]} "tree", generation {shown["generation"]}, signed by "CN=alice-ed25519"'
    assert expected in result.text


def test_every_bad_file_is_reported(nfsverity: Any, signed: Path) -> None:
    (signed / "a.txt").write_bytes(b"jello\n")
    (signed / "sub" / "tool").unlink()
    (signed / "sub" / "deeper" / "a #?% b").write_bytes(b"odd\nand more")
    (signed / "empty").unlink()
    (signed / "empty").symlink_to("a.txt")
    (signed / "sub" / "new").write_bytes(b"new")
    files = verify(nfsverity, signed)
    assert bad(files) == {
        "a.txt": "mismatch",
        "sub/tool": "hidden",
        "sub/deeper/a #?% b": "mismatch",
        "empty": "mismatch",
        "sub/new": "absent",
    }
    assert files["sub/tool"]["error"]["message"] == "it is missing, and the volume has it"
    assert files["empty"]["error"]["found"] == "a symbolic link"
    assert (files["sub/deeper/a #?% b"]["error"]["expected"], files["sub/deeper/a #?% b"]["error"]["found"]) == (
        "4 bytes",
        "12 bytes",
    )
    assert ranges(files["sub/deeper/a #?% b"]) == [(4, 8)]
    result = nfsverity("verify", signed, status=1)
    for path in ("a.txt", "sub/tool", "sub/deeper/a%20%23%3F%25%20b", "empty", "sub/new"):
        assert f"{signed.as_uri()}/{path}" in result.err
    assert result.err.count("what to do: the content is not what was signed") == 1
    assert "2 files verified" in result.text
    assert "5 files not" in result.text


@pytest.mark.spec("fim-ver-11")
def test_every_bad_range_is_reported_with_its_hashes(nfsverity: Any, signed: Path) -> None:
    big = signed / "big.bin"
    content = bytearray(big.read_bytes())
    before = bytes(content)
    for offset in (0, UNIT, 3 * UNIT + 5, 8 * UNIT - 1):
        content[offset] ^= 1
    big.write_bytes(content)
    file = verify(nfsverity, signed)["big.bin"]
    assert ranges(file) == [(0, 2 * UNIT), (3 * UNIT, UNIT), (7 * UNIT, UNIT)]
    for found in file["ranges"]:
        start = int(found["offset"])
        for key, data in (("expected", before), ("found", content)):
            assert found[key] == hashlib.sha256(b"\0" + data[start : start + UNIT]).hexdigest()
    assert (file["error"]["offset"], file["error"]["length"]) == ("0", str(2 * UNIT))
    text = nfsverity("verify", big, status=1).err
    assert f"bytes {3 * UNIT} to {4 * UNIT - 1}" in text


@pytest.mark.parametrize(
    ("size", "place"), [(3 * UNIT, (3 * UNIT, 5 * UNIT)), (3 * UNIT + 9, (3 * UNIT, 5 * UNIT)), (0, (0, 8 * UNIT))]
)
def test_what_is_missing_at_the_end_is_reported(
    nfsverity: Any, signed: Path, size: int, place: tuple[int, int]
) -> None:
    os.truncate(signed / "big.bin", size)
    file = verify(nfsverity, signed)["big.bin"]
    assert ranges(file) == [place]
    assert file["error"]["message"] == "the size is not what was signed"


def test_where_the_kept_tree_is_damaged_only_the_file_is_named(nfsverity: Any, records: Path) -> None:
    database = sqlite3.connect(index_of(records))
    database.execute("UPDATE entry SET tree = zeroblob(length(tree)) WHERE name = ?", (b"big.bin",))
    database.commit()
    database.close()
    assert bad(verify(nfsverity, records, status=0)) == {}
    with (records / "big.bin").open("r+b") as file:
        file.write(b"!")
    damaged = verify(nfsverity, records)["big.bin"]
    assert (damaged["verdict"], damaged["ranges"]) == ("mismatch", [])
    assert len(damaged["error"]["expected"]) == 64


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("record = substr(record, 1, length(record) - 4)", "malformed"),
        ("record = CAST(substr(record, 1, length(record) - 1) || x'ff' AS BLOB)", "bad-signature"),
        ("record = (SELECT record FROM entry WHERE name = CAST('empty' AS BLOB))", "wrong-path"),
    ],
)
def test_records_that_were_altered(nfsverity: Any, records: Path, change: str, verdict: str) -> None:
    database = sqlite3.connect(index_of(records))
    database.execute(f"UPDATE entry SET {change} WHERE name = ?", (b"a.txt",))
    database.commit()
    database.close()
    assert bad(verify(nfsverity, records)) == {"a.txt": verdict}
    shown = nfsverity("show", records / "a.txt", "--json", status=1).json
    assert shown["error"]["verdict"] == verdict


def test_bad_files_of_a_tree_with_a_record_for_each(nfsverity: Any, records: Path) -> None:
    (records / "a.txt").write_bytes(b"jello\n")
    (records / "sub" / "tool").unlink()
    (records / "sub" / "new").write_bytes(b"new")
    files = verify(nfsverity, records)
    assert bad(files) == {"a.txt": "mismatch", "sub/tool": "mismatch", "sub/new": "unsigned"}
    assert files["sub/tool"]["error"]["message"] == "there is no such file"


class TestVolume:
    """What a volume says beside the content of files, and whatever becomes of its index."""

    @pytest.mark.spec("fim-member-3", "fim-member-4")
    def test_names_links_directories_and_the_executable_bit(self, nfsverity: Any, alice: Any, signed: Path) -> None:
        (signed / "link").symlink_to("a.txt")
        (signed / "other").symlink_to("a.txt")
        (signed / "gone").symlink_to("a.txt")
        (signed / "nothing").mkdir()
        (signed / "was-empty").mkdir()
        nfsverity("sign", *alice.options, signed)
        assert bad(verify(nfsverity, signed, status=0)) == {}
        (signed / "link").unlink()
        (signed / "link").symlink_to("empty")
        (signed / "other").unlink()
        (signed / "other").mkdir()
        (signed / "gone").unlink()
        (signed / "nothing").rmdir()
        (signed / "was-empty" / "new").write_bytes(b"new")
        (signed / "more" / "below").mkdir(parents=True)
        (signed / "more" / "below" / "file").write_bytes(b"")
        (signed / "more" / "to").symlink_to("below")
        (signed / "sub" / "tool").chmod(0o644)
        (signed / "a.txt").chmod(0o755)
        files = verify(nfsverity, signed)
        assert bad(files) == {
            "link": "mismatch",
            "other": "mismatch",
            "gone": "hidden",
            "nothing": "hidden",
            "was-empty/new": "absent",
            "more": "absent",
            "more/below": "absent",
            "more/below/file": "absent",
            "more/to": "absent",
            "sub/tool": "mismatch",
            "a.txt": "mismatch",
        }
        told = {
            path: (file["error"]["expected"], file["error"]["found"]) for path, file in files.items() if file["error"]
        }
        assert told["link"] == ("a.txt", "empty")
        assert told["other"] == ("a symbolic link", "a directory")
        assert told["sub/tool"] == ("executable", "not executable")
        assert told["a.txt"] == ("not executable", "executable")

    @pytest.mark.spec("fim-range-1", "fim-range-3", "fim-range-4", "fim-member-1")
    @pytest.mark.parametrize(
        "change",
        [
            "DELETE FROM entry WHERE name = CAST('a.txt' AS BLOB)",
            "UPDATE entry SET root = zeroblob(32) WHERE name = CAST('a.txt' AS BLOB)",
            "UPDATE entry SET executable = 1 WHERE name = CAST('a.txt' AS BLOB)",
            "UPDATE entry SET name = CAST('b.txt' AS BLOB) WHERE name = CAST('a.txt' AS BLOB)",
        ],
    )
    def test_an_index_that_was_altered(self, nfsverity: Any, signed: Path, change: str) -> None:
        database = sqlite3.connect(index_of(signed))
        database.execute(change)
        database.commit()
        database.close()
        report = nfsverity.json("verify", str(signed), status=1)
        assert (report["verified"], report["files"]) == (0, [])
        assert [(error["verdict"], error["file"]) for error in report["errors"]] == [
            ("mismatch", f"{signed.as_uri()}/")
        ]
        (error,) = nfsverity.json("verify", str(signed / "a.txt"), status=1)["errors"]
        assert (error["verdict"], error["file"]) == ("mismatch", f"{signed.as_uri()}/a.txt")

    def test_a_head_that_was_altered(self, nfsverity: Any, signed: Path) -> None:
        database = sqlite3.connect(index_of(signed))
        database.execute("UPDATE head SET record = CAST(substr(record, 1, length(record) - 1) || x'ff' AS BLOB)")
        database.commit()
        database.close()
        report = nfsverity.json("verify", str(signed), str(signed / "sub"), str(signed / "a.txt"), status=1)
        assert (report["files"], report["failed"]) == ([], 0), "as of a served tree"
        assert [(error["verdict"], error["file"]) for error in report["errors"]] == [
            ("bad-signature", f"{signed.as_uri()}/"),
            ("bad-signature", f"{signed.as_uri()}/sub"),
            ("bad-signature", f"{signed.as_uri()}/a.txt"),
        ]

    def test_a_folder_of_it(self, nfsverity: Any, signed: Path) -> None:
        (signed / "new").write_bytes(b"new")
        assert set(verify(nfsverity, signed / "sub", status=0)) == {"sub/tool", "sub/deeper/a #?% b", "c3ViL2NhZuk="}

    @pytest.mark.spec("fim-head-2", "fim-head-4")
    def test_what_was_published_before_is_refused(
        self, nfsverity: Any, alice: Any, records: Path, tmp_path: Path
    ) -> None:
        nfsverity("verify", records)
        old = shutil.copytree(records / ".nfsverity", tmp_path / "records")
        nfsverity("sign", *alice.options, "--as-volume", records)
        nfsverity("verify", records)
        first = shutil.copytree(records / ".nfsverity", tmp_path / "first")
        nfsverity("sign", *alice.options, "--renew", "--days", "3", records)
        nfsverity("verify", records)
        for directory, verdict in ((first, "rollback"), (old, "wrong-kind")):
            shutil.rmtree(records / ".nfsverity")
            shutil.copytree(directory, records / ".nfsverity")
            report = nfsverity.json("verify", str(records / "a.txt"), status=1)
            assert [one["verdict"] for one in (*report["files"], *report["errors"])] == [verdict]


def test_one_file_or_one_folder(nfsverity: Any, signed: Path) -> None:
    (signed / "a.txt").write_bytes(b"jello\n")
    assert len(verify(nfsverity, signed / "sub", status=0)) == 3
    assert len(verify(nfsverity, signed / "big.bin", status=0)) == 1
    assert bad(verify(nfsverity, signed / "a.txt")) == {"a.txt": "mismatch"}
    report = nfsverity.json("verify", str(signed / "sub"), str(signed / "a.txt"), status=1)
    assert (report["verified"], report["failed"]) == (3, 1)


def test_what_was_never_signed(nfsverity: Any, records: Path, tmp_path: Path) -> None:
    (records / "new").write_bytes(b"new")
    assert bad(verify(nfsverity, records / "new")) == {"new": "unsigned"}
    (tmp_path / "plain").mkdir()
    report = nfsverity.json("verify", str(tmp_path / "plain"), status=1)
    assert [error["verdict"] for error in report["errors"]] == ["unsigned"]
    result = nfsverity("show", tmp_path / "plain", "--json", status=1)
    assert result.json["error"]["verdict"] == "unsigned"


def test_links_and_special_files_are_skipped_and_said(nfsverity: Any, records: Path) -> None:
    (records / "link").symlink_to("a.txt")
    os.mkfifo(records / "sub" / "pipe")
    report = nfsverity.json("verify", str(records))
    assert {entry["path"]: entry["reason"] for entry in report["skipped"]} == {
        "link": "symbolic link",
        "sub/pipe": "special file",
    }
    assert "2 links and special files not looked at" in nfsverity("verify", records).text
    assert "name the file that it leads to" in nfsverity("verify", records / "link", status=1).err


def test_a_target_that_is_not_there(nfsverity: Any, signed: Path) -> None:
    result = nfsverity("verify", signed / "none", signed / "a.txt", "--json", status=4)
    assert (result.json["verified"], result.json["errors"][0]["file"]) == (1, str(signed / "none"))
    assert str(signed / "none") in nfsverity("show", signed / "none", status=4).err


def test_a_file_that_cannot_be_read_is_not_taken_for_a_bad_one(nfsverity: Any, signed: Path) -> None:
    (signed / "a.txt").chmod(0)
    if os.access(signed / "a.txt", os.R_OK):
        pytest.skip("this user reads everything")
    file = verify(nfsverity, signed, status=4)["a.txt"]
    assert (file["verdict"], file["error"]["kind"]) == (None, "local")


def test_a_damaged_head_is_an_error_that_names_it(nfsverity: Any, signed: Path) -> None:
    (signed / ".nfsverity" / "head").write_bytes(b"{")
    for command in ("verify", "show"):
        assert str(signed / ".nfsverity" / "head") in nfsverity(command, signed / "a.txt", status=4).err


def test_a_copy_verifies_where_it_is(nfsverity: Any, signed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(signed, tmp_path / "copy")
    assert bad(verify(nfsverity, copy, status=0)) == {}


def test_a_sparse_file_of_1_tib(nfsverity: Any, alice: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    folder.mkdir()
    with (folder / "disk").open("wb") as file:
        file.seek(2**39)
        file.write(b"data")
        file.truncate(2**40)
    nfsverity("sign", *alice.options, folder)
    nfsverity("trust", "add", alice.certificate)
    assert bad(verify(nfsverity, folder, status=0)) == {}
    with (folder / "disk").open("r+b") as file:
        file.seek(2**38 + 1)
        file.write(b"!")
    assert ranges(verify(nfsverity, folder)["disk"]) == [(2**38, UNIT)]


def test_show_says_everything_that_a_record_says(nfsverity: Any, alice: Any, signed: Path) -> None:
    tool = signed / "sub" / "tool"
    shown = nfsverity.json("show", str(tool))
    assert (shown["path"], shown["size"], shown["unit_size"], shown["units"]) == ("sub/tool", "10", UNIT, "1")
    assert (shown["executable"], shown["hash"], shown["extensions"]) == (True, "sha256", [])
    assert shown["root"] == hashlib.sha256(b"\0#!/bin/sh\n").hexdigest()
    assert shown["mtime"] == "{}.{:09}".format(*divmod(tool.stat().st_mtime_ns, 10**9))
    (attestation,) = shown["attestations"]
    assert (attestation["type"], attestation["scheme"], attestation["verified"]) == ("signature", "ed25519", True)
    assert attestation["fingerprint"] == alice.fingerprint
    text = nfsverity("show", tool).text
    for value in (
        shown["volume"], shown["generation"], shown["root"], shown["tag"], alice.fingerprint, "65,536 bytes (1 unit)",
        "does not expire", f"record      {shown['record_size']} bytes; verified",
    ):  # fmt: skip
        assert value in text


def test_show_reads_no_content_and_binds_nothing(nfsverity: Any, signed: Path) -> None:
    (signed / "a.txt").unlink()
    (signed / "a.txt").write_bytes(b"jello\n")
    assert nfsverity.json("show", str(signed / "a.txt"))["verified"]
    assert nfsverity.json("trust", "list")["bindings"] == []


def test_show_tells_what_trust_makes_of_each_signature(nfsverity: Any, alice: Any, bob: Any, signed: Path) -> None:
    nfsverity("sign", *alice.options, *bob.options, signed)
    shown = nfsverity.json("show", str(signed / "sub" / "tool"))
    found = {a["fingerprint"]: a["error"] and a["error"]["verdict"] for a in shown["attestations"]}
    assert found == {alice.fingerprint: None, bob.fingerprint: "untrusted"}
    assert {a["subject"] for a in shown["attestations"]} == {"CN=alice-ed25519", "CN=bob-ed25519"}
    nfsverity("trust", "remove", alice.fingerprint)
    shown = nfsverity.json("show", str(signed / "sub" / "tool"), status=1)
    assert (shown["verified"], shown["error"]["verdict"]) == (False, "untrusted")
    result = nfsverity("show", signed / "sub" / "tool", status=1)
    assert "untrusted" in result.text
    assert "what to do" in result.err


def test_a_folder_has_no_record(nfsverity: Any, records: Path) -> None:
    assert "it is a directory" in nfsverity("show", records / "sub", status=4).err


def test_a_directory_that_the_volume_has_not_is_absent_when_it_is_named(nfsverity: Any, signed: Path) -> None:
    (signed / "new" / "below").mkdir(parents=True)
    assert bad(verify(nfsverity, signed / "new")) == {"new": "absent", "new/below": "absent"}
    assert bad(verify(nfsverity, signed / "new" / "below")) == {"new/below": "absent"}
    (signed / "new" / "below" / "file").write_bytes(b"x")
    assert bad(verify(nfsverity, signed / "new" / "below")) == {"new/below": "absent", "new/below/file": "absent"}


def test_advice_is_about_this_machine(nfsverity: Any, alice: Any, signed: Path) -> None:
    (signed / "more").write_bytes(b"nobody signed it")
    (signed / "a.txt").unlink()
    result = nfsverity("verify", signed, status=1)
    assert "what to do: if it belongs to the volume, sign the tree again" in result.err
    assert "what to do: the tree is not whole" in result.err
    assert "server" not in result.err
