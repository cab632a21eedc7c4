# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity sign`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

FILES = 6
VOLUME = "00112233445566778899aabbccddeeff"


def root(nodes: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as it stands there."""
    if len(nodes) == 1:
        return nodes[0]
    split = 1 << ((len(nodes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + root(nodes[:split]) + root(nodes[split:])).digest()


def one(report: Any) -> Any:
    """The report about the only tree."""
    (tree,) = report["trees"]
    return tree


def test_a_tree_is_signed_and_reported(nfsverity: Any, alice: Any, tree: Path) -> None:
    report = one(nfsverity.json("sign", *alice.options, tree))
    assert (report["signed"], report["unchanged"], report["removed"]) == (FILES, 0, 0)
    assert (report["root"], report["label"], report["error"]) == (str(tree), "tree", None)
    assert len(bytes.fromhex(report["volume"])) == 16
    assert int(report["generation"]) > 1_700_000_000_000_000
    assert int(report["bytes_hashed"]) == 512 * 1024 + 6 + 10 + 4 + 6


def test_the_report_for_people_says_the_same(nfsverity: Any, alice: Any, tree: Path) -> None:
    result = nfsverity("sign", *alice.options, tree)
    report = one(nfsverity.json("sign", *alice.options, tree))
    for text in (f'volume      {report["volume"]} "tree"', f"generation  {report['generation']}", "6 files (524,314"):
        assert text in result.text
    assert result.err == ""


def test_what_has_not_changed_is_not_signed_again(nfsverity: Any, alice: Any, signed: Path) -> None:
    (signed / "a.txt").write_bytes(b"hello again\n")
    (signed / "empty").unlink()
    report = one(nfsverity.json("sign", *alice.options, signed))
    assert (report["signed"], report["unchanged"], report["removed"]) == (1, FILES - 2, 1)


def test_rehash_finds_a_change_that_stat_does_not_show(nfsverity: Any, alice: Any, signed: Path) -> None:
    before = os.stat(signed / "big.bin")
    deadline = time.monotonic() + 10
    while one(nfsverity.json("sign", *alice.options, signed))["bytes_hashed"] != "0":
        assert time.monotonic() < deadline  # files that are only just written are hashed once more
    report = one(nfsverity.json("sign", *alice.options, "--rehash", signed))
    assert int(report["bytes_hashed"]) > before.st_size
    assert report["unchanged"] == FILES


def test_volume_and_label_are_kept_and_the_generation_rises(nfsverity: Any, alice: Any, signed: Path) -> None:
    first = nfsverity.json("show", str(signed / "a.txt"))
    (signed / "a.txt").write_bytes(b"hello again\n")
    renamed = signed.rename(signed.with_name("other"))
    report = one(nfsverity.json("sign", *alice.options, renamed))
    assert report["volume"] == first["volume"]
    assert report["label"] == "tree"
    assert int(report["generation"]) > int(first["generation"])


@pytest.mark.parametrize("size", ["4K", "4096", "1M", "16M", "16777216"])
def test_unit_sizes(nfsverity: Any, alice: Any, tree: Path, size: str) -> None:
    nfsverity("sign", *alice.options, "--unit-size", size, tree / "big.bin")
    shown = nfsverity.json("show", "--trust", alice.certificate, str(tree / "big.bin"))
    number = {"4K": 4096, "1M": 2**20, "16M": 2**24}.get(size) or int(size)
    assert shown["unit_size"] == number
    assert int(shown["units"]) == max(1, 512 * 1024 // number)


@pytest.mark.parametrize("hash", ["sha256", "sha384", "sha512", "sha3-256", "blake3"])
def test_hashes(nfsverity: Any, alice: Any, tree: Path, hash: str) -> None:
    nfsverity("sign", *alice.options, "--hash", hash, tree)
    shown = nfsverity.json("show", "--trust", alice.certificate, str(tree / "big.bin"))
    assert shown["hash"] == hash
    nfsverity("verify", "--trust", alice.certificate, tree)
    (tree / "a.txt").write_bytes(b"again")
    nfsverity("sign", *alice.options, tree)
    assert nfsverity.json("show", "--trust", alice.certificate, str(tree / "a.txt"))["hash"] == hash


def test_the_volume_id_can_be_given(nfsverity: Any, alice: Any, tree: Path) -> None:
    assert one(nfsverity.json("sign", *alice.options, "--volume-id", VOLUME, tree))["volume"] == VOLUME
    nfsverity("verify", "--trust", alice.certificate, "--volume", VOLUME, tree)


def test_two_signers_vouch_for_one_record(nfsverity: Any, alice: Any, make_keys: Any, tree: Path) -> None:
    carol = make_keys("carol", "ml-dsa-44")
    nfsverity("sign", *alice.options, *carol.options, tree)
    for trust in (alice.certificate, carol.certificate):
        nfsverity("verify", "--trust", trust, tree)
    shown = nfsverity.json("show", "--trust", carol.certificate, str(tree / "a.txt"))
    assert sorted(a["scheme"] for a in shown["attestations"]) == ["ed25519", "ml-dsa-44"]
    assert [a["error"] and a["error"]["verdict"] for a in shown["attestations"] if a["scheme"] == "ed25519"] == [
        "untrusted"
    ]


def test_records_expire_when_they_are_told_to(nfsverity: Any, alice: Any, tree: Path) -> None:
    nfsverity("sign", *alice.options, "--days", "90", tree / "a.txt")
    shown = nfsverity.json("show", "--trust", alice.certificate, str(tree / "a.txt"))
    assert 0 <= int(shown["issued"]) + 90 * 86400 - int(shown["not_after"]) < 60  # the one is read after the other
    nfsverity("sign", *alice.options, "--not-after", "2099-12-31", tree / "big.bin")
    shown = nfsverity.json("show", "--trust", alice.certificate, str(tree / "big.bin"))
    assert int(shown["not_after"]) == 4102444799
    nfsverity("sign", *alice.options, tree / "empty")
    assert nfsverity.json("show", "--trust", alice.certificate, str(tree / "empty"))["not_after"] is None


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_large_file_is_hashed_by_one_process_or_more(nfsverity: Any, alice: Any, tmp_path: Path, jobs: str) -> None:
    large = tmp_path / "lone" / "large"
    large.parent.mkdir()
    with large.open("wb") as file:
        for number in range(80):
            file.write(bytes([number]) * 2**20)
    nfsverity("sign", *alice.options, "--jobs", jobs, large)
    shown = nfsverity.json("show", "--trust", alice.certificate, str(large))
    leaves = [hashlib.sha256(b"\0" + bytes([number]) * 2**16).digest() for number in range(80) for _ in range(16)]
    assert shown["root"] == root(leaves).hex()
    nfsverity("verify", "--trust", alice.certificate, large)


def test_a_lone_file_is_signed_in_its_folder(nfsverity: Any, alice: Any, tree: Path) -> None:
    report = one(nfsverity.json("sign", *alice.options, tree / "a.txt"))
    assert (report["root"], report["signed"]) == (str(tree), 1)
    assert (tree / ".nfsverity" / "head").is_file()


def test_a_path_in_a_published_tree_belongs_to_it(nfsverity: Any, alice: Any, signed: Path) -> None:
    (signed / "sub" / "new").write_bytes(b"new")
    report = one(nfsverity("sign", *alice.options, "new", "--json", cwd=signed / "sub").json)
    assert (report["root"], report["signed"]) == (str(signed), 1)
    assert not (signed / "sub" / ".nfsverity").exists()


def test_several_trees_at_once(nfsverity: Any, alice: Any, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "x").write_bytes(b"x")
    report = nfsverity.json("sign", *alice.options, tree, tmp_path / "second")
    assert {t["root"]: t["signed"] for t in report["trees"]} == {str(tree): FILES, str(tmp_path / "second"): 1}


def test_special_files_are_named_not_signed(nfsverity: Any, alice: Any, tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    os.mkfifo(tree / "pipe")
    report = one(nfsverity.json("sign", *alice.options, tree))
    assert report["skipped"] == [{"path": "pipe", "reason": "special file"}]
    assert (report["form"], report["entries"], report["links"], report["directories"]) == ("volume", FILES + 3, 1, 2)
    text = nfsverity("sign", *alice.options, tree).text
    assert "pipe (special file)" in text
    assert "form        volume of 6 files, 1 link, 2 directories" in text


def test_without_a_volume_links_and_special_files_are_named_not_signed(nfsverity: Any, alice: Any, tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    (tree / "dirlink").symlink_to("sub")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "socket"))
        report = one(nfsverity.json("sign", *alice.options, "--per-file", tree))
        result = nfsverity("sign", *alice.options, "--per-file", tree)
    assert report["signed"] == FILES
    assert {entry["path"]: entry["reason"] for entry in report["skipped"]} == {
        "link": "symbolic link", "dirlink": "symbolic link", "pipe": "special file", "socket": "special file"
    }  # fmt: skip
    assert "pipe (special file)" in result.text


def test_names_that_are_not_utf_8(nfsverity: Any, alice: Any, tree: Path) -> None:
    path = os.fsencode(tree) + b"/\xff\xfe"
    os.mkfifo(path)
    (entry,) = one(nfsverity.json("sign", *alice.options, tree))["skipped"]
    assert entry["path"] is None
    assert base64.b64decode(entry["path_base64"]) == b"\xff\xfe"
    assert "\\xff\\xfe (special file)" in nfsverity("sign", *alice.options, tree).text


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_signed(
    nfsverity: Any, alice: Any, tree: Path
) -> None:
    (tree / "a.txt").chmod(0)
    if os.access(tree / "a.txt", os.R_OK):
        pytest.skip("this user reads everything")
    report = one(nfsverity.json("sign", *alice.options, tree, status=4))
    assert report["signed"] == FILES - 1
    assert report["failed"] == [{"path": "a.txt", "reason": "Permission denied"}]


@pytest.mark.parametrize("form", [[], ["--per-file"]])
def test_a_time_that_cannot_be_kept_is_reported_and_the_others_are_signed(
    nfsverity: Any, alice: Any, tree: Path, form: list[str]
) -> None:
    os.utime(tree / "a.txt", (0, 13_569_465_600))  # 2400-01-01
    if (tree / "a.txt").stat().st_mtime < 13_569_465_600:
        pytest.skip("the file system has no such times")
    report = one(nfsverity.json("sign", *alice.options, *form, tree, status=4))
    assert report["signed"] == FILES - 1
    assert [failed["path"] for failed in report["failed"]] == ["a.txt"]
    assert "after 2262-04-11" in report["failed"][0]["reason"]


def test_a_name_that_is_too_deep_is_reported_and_the_others_are_signed(nfsverity: Any, alice: Any, tree: Path) -> None:
    at = os.open(tree, os.O_RDONLY)
    for _ in range(257):
        os.mkdir(b"d", dir_fd=at)
        below = os.open(b"d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    result = nfsverity("sign", *alice.options, tree, "--json", status=4)
    report = one(result.json)
    assert report["signed"] == FILES
    assert len(report["failed"]) >= 1
    assert "not signed" in result.err


def test_a_nested_publication_is_an_error_that_names_both(nfsverity: Any, alice: Any, tree: Path) -> None:
    nfsverity("sign", *alice.options, tree / "sub")
    result = nfsverity("sign", *alice.options, tree, "--json", status=4)
    report = one(result.json)
    assert str(tree / "sub" / ".nfsverity") in report["error"]["message"]
    assert str(tree) in report["error"]["message"]
    assert str(tree / "sub" / ".nfsverity") in result.err


def test_a_tree_that_holds_the_key_is_refused(nfsverity: Any, alice: Any, tree: Path) -> None:
    key = tree / "sub" / "my.key"
    key.write_bytes(alice.key.read_bytes())
    result = nfsverity("sign", "--key", key, "--cert", alice.certificate, tree, status=4)
    assert str(key) in result.err
    assert not (tree / ".nfsverity" / "head").exists()


def test_one_publisher_at_a_time(nfsverity: Any, alice: Any, signed: Path) -> None:
    import fcntl

    with (signed / ".nfsverity" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = nfsverity("sign", *alice.options, "--wait", "0", signed, status=4)
        assert "another process is signing" in result.err
        assert "--wait" in result.err


def test_the_next_publisher_waits_and_says_so(nfsverity: Any, alice: Any, signed: Path) -> None:
    import fcntl

    (signed / "new").write_bytes(b"new")
    with (signed / ".nfsverity" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = nfsverity.start("sign", *alice.options, signed, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stderr is not None
        assert b"another process is signing it: waiting up to 30 s" in process.stderr.readline()
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0
    assert nfsverity.json("verify", str(signed))["failed"] == 0


def test_four_publishers_at_once_all_end_well(nfsverity: Any, alice: Any, tree: Path) -> None:
    """None loses what another signed, nor trips over the first one's making of the directory."""
    names = [f"new-{number}" for number in range(4)]
    for name in names:
        (tree / name).write_bytes(name.encode())
    started = [
        nfsverity.start("sign", *alice.options, tree / name, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for name in names
    ]
    for process in started:
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 0, err
    for name in names:
        nfsverity("verify", "--trust", alice.certificate, tree / name)


def test_an_append_is_signed_without_reading_the_rest(nfsverity: Any, alice: Any, signed: Path) -> None:
    with (signed / "big.bin").open("ab") as file:
        file.write(b"more")
    report = one(nfsverity.json("sign", *alice.options, "--appended", str(signed / "big.bin")))
    assert report["bytes_hashed"] == str(4 + 2 * 65536)
    assert report["whole"] == []
    assert report["changed"] == [
        {
            "path": "big.bin",
            "size_before": "524288",
            "size": "524292",
            "ranges": [{"offset": "524288", "length": "4"}],
        }
    ]
    nfsverity("verify", signed / "big.bin")


def test_what_is_said_to_have_changed_is_signed(nfsverity: Any, alice: Any, signed: Path) -> None:
    with (signed / "big.bin").open("r+b") as file:
        file.seek(128 * 1024)
        file.write(b"one")
        file.seek(300 * 1024)
        file.write(b"two")
    options = ("--changed", "128K:3", "--changed", f"{300 * 1024}:3", "--show-changes")
    result = nfsverity("sign", *alice.options, *options, signed / "big.bin")
    lines = result.text.splitlines()
    at = lines.index("changed     1 file:")
    assert [line.split() for line in lines[at + 1 :]] == [
        ["big.bin", "(524,288", "bytes)"], ["131072:65536"], ["262144:65536"]
    ]  # fmt: skip
    assert "(262,144 bytes hashed)" in result.text
    nfsverity("verify", signed / "big.bin")


def test_new_content_is_put_in_place_with_its_record(nfsverity: Any, alice: Any, signed: Path) -> None:
    new = signed.parent / "new"
    new.write_bytes(b"r" * 100_000)
    report = one(nfsverity.json("sign", *alice.options, "--replace-with", str(new), str(signed / "big.bin")))
    assert (report["signed"], report["failed"]) == (1, [])
    assert (signed / "big.bin").read_bytes() == b"r" * 100_000
    assert not new.exists()
    nfsverity("verify", signed / "big.bin")
    result = nfsverity("sign", *alice.options, "--replace-with", str(new), signed / "big.bin", status=4)
    assert str(new) in result.err
    nfsverity("verify", signed / "big.bin")


def test_a_word_that_is_wrong_has_the_file_hashed_in_whole_and_is_named(
    nfsverity: Any, alice: Any, signed: Path
) -> None:
    (signed / "big.bin").write_bytes(bytes(600_000))
    result = nfsverity("sign", *alice.options, "--appended", signed / "big.bin")
    assert "big.bin: hashed in whole: bytes 0 to 65536 changed too, and were not named" in result.err
    assert "(600,000 bytes hashed)" in result.text
    nfsverity("verify", signed / "big.bin")


class TestExternalSigners:
    """--key is a command, or a key in a token."""

    @pytest.mark.tool("openssl")
    def test_a_command(self, nfsverity: Any, make_keys: Any, tree: Path) -> None:
        keys = make_keys("outside", "ecdsa-p256")
        signer = ("--key", f"command:openssl dgst -sha256 -sign {keys.key}", "--cert", keys.certificate)
        nfsverity("sign", *signer, tree)
        nfsverity("verify", "--trust", keys.certificate, tree)
        nfsverity("sign", *signer, "--renew", "--days", "1", tree)
        nfsverity("revoke", *signer, tree)
        nfsverity("verify", "--trust", keys.certificate, tree)

    @pytest.mark.parametrize("command", ["command:false", "command:head -c 64 /dev/zero"])
    def test_nothing_is_published_without_a_signature(
        self, nfsverity: Any, alice: Any, signed: Path, command: str
    ) -> None:
        head = (signed / ".nfsverity" / "head").read_bytes()
        names = set(os.listdir(signed / ".nfsverity"))
        (signed / "a.txt").write_bytes(b"other")
        nfsverity("sign", "--key", command, "--cert", alice.certificate, signed, status=4)
        nfsverity("revoke", "--key", command, "--cert", alice.certificate, signed, status=4)
        assert (signed / ".nfsverity" / "head").read_bytes() == head
        assert set(os.listdir(signed / ".nfsverity")) == names

    @pytest.mark.tool("softhsm2-util")
    def test_a_token(
        self, nfsverity: Any, make_keys: Any, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = Path("/usr/lib/softhsm/libsofthsm2.so")
        if not module.exists():
            pytest.fail("the library of SoftHSM is not where Debian has it, though its tool is there")
        (tmp_path / "tokens").mkdir()
        (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
        nfsverity.environment["SOFTHSM2_CONF"] = str(tmp_path / "softhsm2.conf")
        keys = make_keys("token", "ed25519")
        for arguments in (
            ["--init-token", "--free", "--label", "t", "--so-pin", "1234", "--pin", "1234"],
            ["--import", keys.key, "--token", "t", "--label", "signer", "--id", "01", "--pin", "1234"],
        ):
            subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True)
        uri = f"pkcs11:token=t;object=signer?module-path={module}"
        signer = ("--key", uri, "--cert", keys.certificate)
        refused = nfsverity("sign", *signer, tree, status=4, stdin=subprocess.DEVNULL)
        assert "the token t needs its PIN" in refused.err
        nfsverity.environment["NFSVERITY_PKCS11_PIN"] = "1234"
        nfsverity("sign", *signer, tree)
        nfsverity("revoke", *signer, tree)
        nfsverity("verify", "--trust", keys.certificate, tree)


class TestForm:
    """A volume, or a record for each file."""

    def test_a_tree_keeps_what_it_has(self, nfsverity: Any, alice: Any, tree: Path) -> None:
        report = one(nfsverity.json("sign", *alice.options, "--per-file", tree))
        assert (report["form"], report["entries"]) == ("records", 0)
        (tree / "a.txt").write_bytes(b"again")
        assert one(nfsverity.json("sign", *alice.options, tree))["form"] == "records"
        assert "--as-volume" in nfsverity("sign", *alice.options, tree).text

    @pytest.mark.spec("fim-head-2")
    def test_readers_follow_from_records_to_a_volume_and_not_back(
        self, nfsverity: Any, alice: Any, records: Path
    ) -> None:
        nfsverity("verify", records)
        nfsverity("sign", *alice.options, "--as-volume", records / "a.txt", status=4)
        report = one(nfsverity.json("sign", *alice.options, "--as-volume", records))
        assert (report["form"], report["signed"]) == ("volume", FILES)
        nfsverity("verify", records)
        result = nfsverity("sign", *alice.options, "--per-file", records, status=4)
        assert "another volume ID" in result.err
        nfsverity("verify", records)
        report = one(nfsverity.json("sign", *alice.options, "--per-file", "--volume-id", "new", records))
        assert (report["form"], report["signed"]) == ("records", FILES)
        assert set(verdicts(nfsverity, records)) == {"wrong-volume"}
        nfsverity("verify", "--volume", report["volume"], records)
        left = {path.name.partition("-")[0] for path in (records / ".nfsverity").iterdir()}
        assert left <= {"head", "index", "nodes", "lock", "trees"}
        nfsverity("sign", *alice.options, "--rehash", "--days", "9", records)
        assert not list((records / ".nfsverity").glob("nodes-*"))

    def test_a_lone_file_says_nothing_of_its_folder(self, nfsverity: Any, alice: Any, tree: Path) -> None:
        assert one(nfsverity.json("sign", *alice.options, tree / "a.txt"))["form"] == "records"

    def test_a_lone_file_as_a_volume(self, nfsverity: Any, alice: Any, tree: Path) -> None:
        report = one(nfsverity.json("sign", *alice.options, "--as-volume", tree / "a.txt"))
        assert (report["form"], report["entries"]) == ("volume", 1)
        nfsverity("verify", "--trust", alice.certificate, tree / "a.txt")


class TestRenewal:
    """The head again, without a look at the files."""

    def test_it_has_new_times_and_reads_no_file(self, nfsverity: Any, alice: Any, signed: Path) -> None:
        before = nfsverity.json("show", str(signed / "a.txt"))
        (signed / "a.txt").write_bytes(b"changed")
        report = one(nfsverity.json("sign", *alice.options, "--renew", "--days", "7", signed))
        assert (report["signed"], report["unchanged"], report["bytes_hashed"]) == (0, FILES, "0")
        after = nfsverity.json("show", str(signed / "a.txt"))
        assert int(after["generation"]) > int(before["generation"])
        assert before["not_after"] is None
        assert abs(int(after["not_after"]) - 7 * 86400 - time.time()) < 300
        assert after["root"] == before["root"]
        kept = nfsverity("sign", *alice.options, "--renew", "--days", "7", signed)
        assert "expire" not in kept.err
        ended = nfsverity("sign", *alice.options, "--renew", signed)
        assert (
            f"before, it would have expired at {time.strftime('%Y-%m-', time.gmtime(int(after['not_after'])))}"
            in ended.err
        )
        assert "expire" not in nfsverity("sign", *alice.options, "--renew", signed).err
        assert [file for file in verdicts(nfsverity, signed) if file != "verified"] == ["mismatch"]

    def test_it_is_refused_by_others_and_for_other_things(
        self, nfsverity: Any, alice: Any, bob: Any, signed: Path, tmp_path: Path
    ) -> None:
        head = (signed / ".nfsverity" / "head").read_bytes()
        assert "none of the keys" in nfsverity("sign", *bob.options, "--renew", signed, status=4).err
        nfsverity("sign", *alice.options, "--renew", signed / "a.txt", status=2)
        nfsverity("sign", *alice.options, "--renew", "--rehash", signed, status=2)
        (tmp_path / "empty").mkdir()
        nfsverity("sign", *alice.options, "--renew", tmp_path / "empty", status=4)
        assert not list((tmp_path / "empty").iterdir())
        assert (signed / ".nfsverity" / "head").read_bytes() == head

    def test_a_head_that_was_altered_is_not_signed(self, nfsverity: Any, alice: Any, signed: Path) -> None:
        import sqlite3

        (index,) = (signed / ".nfsverity").glob("index-*")
        with contextlib.closing(sqlite3.connect(index)) as database:
            database.execute("UPDATE head SET record = CAST(substr(record, 1, length(record) - 1) || x'ff' AS BLOB)")
            database.commit()
        assert "none of the keys" in nfsverity("sign", *alice.options, "--renew", signed, status=4).err

    def test_what_has_records_has_no_head(self, nfsverity: Any, alice: Any, records: Path) -> None:
        assert "it is no volume" in nfsverity("sign", *alice.options, "--renew", records, status=4).err


def verdicts(nfsverity: Any, tree: Path) -> list[str]:
    return [file["verdict"] for file in nfsverity("verify", tree, "--json", status=None).json["files"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--per-file", "--as-volume"],
        ["--unit-size", "5000"], ["--unit-size", "2K"], ["--unit-size", "32M"], ["--hash", "md5"], ["--jobs", "0"],
        ["--volume-id", "12"], ["--days", "0"], ["--days", "1", "--not-after", "2099-01-01"],
        ["--not-after", "2020-01-01"], ["--not-after", "soon"], ["--key", "another"], ["--frobnicate"],
        ["--changed", "0:1"], ["--appended"],
        ["--changed", "5"], ["--changed", "x:1"], ["--wait", "-1"],
    ],
)  # fmt: skip
def test_what_is_a_mistake_of_usage(nfsverity: Any, alice: Any, tree: Path, arguments: list[str]) -> None:
    result = nfsverity("sign", *alice.options, tree, *arguments, status=2)
    assert "Usage: nfsverity sign" in result.err
    error = json.loads(nfsverity("sign", *alice.options, tree, *arguments, "--json", status=2).out)
    assert (error["status"], error["error"]["kind"]) == (2, "usage")
    assert not (tree / ".nfsverity").exists()


@pytest.mark.parametrize("more", [["--rehash"], ["a.txt"]])
def test_what_changed_is_about_one_file_that_is_not_read_whole(
    nfsverity: Any, alice: Any, signed: Path, more: list[str]
) -> None:
    nfsverity("sign", *alice.options, "--changed", "0:1", "big.bin", *more, cwd=signed, status=2)


def test_one_file_is_replaced_at_a_time(nfsverity: Any, alice: Any, signed: Path) -> None:
    for paths in (["."], ["a.txt", "big.bin"]):
        nfsverity("sign", *alice.options, "--replace-with", "empty", *paths, cwd=signed, status=2)


def test_the_same_signer_twice_is_a_mistake(nfsverity: Any, alice: Any, tree: Path) -> None:
    nfsverity("sign", *alice.options, *alice.options, tree, status=2)


@pytest.mark.parametrize(
    ("key", "certificate", "says"),
    [
        ("none", "alice.crt", "none"),
        ("alice.key", "none", "none"),
        ("alice.crt", "alice.crt", "is not a private key in PEM without a password: it holds a certificate"),
        ("alice.key", "alice.key", "is not a certificate in PEM: it holds a private key"),
        ("alice.key", "bob.crt", "the key is not the one of the certificate"),
    ],
)
def test_keys_that_cannot_be_used_are_named(
    nfsverity: Any, alice: Any, bob: Any, tree: Path, key: str, certificate: str, says: str
) -> None:
    files = {"alice.key": alice.key, "alice.crt": alice.certificate, "bob.crt": bob.certificate, "none": tree / "none"}
    result = nfsverity("sign", "--key", files[key], "--cert", files[certificate], tree, status=4)
    assert says in result.err


def test_a_damaged_head_is_replaced_by_one_of_the_same_volume(nfsverity: Any, alice: Any, signed: Path) -> None:
    volume = nfsverity.json("verify", signed)["files"][0]["volume"]
    nfsverity("revoke", *alice.options, "--revoke-version", signed / "a.txt", signed)
    head = signed / ".nfsverity" / "head"
    head.write_bytes(head.read_bytes()[:20])
    result = nfsverity("sign", *alice.options, signed, status=4)
    assert "remove this file, and sign the tree again with the volume ID that its readers know" in result.err
    head.unlink()
    report = one(nfsverity.json("sign", *alice.options, "--volume-id", volume, signed))
    assert (report["volume"], report["revoked"]) == (volume, [{"path": "a.txt"}])
    assert nfsverity("verify", signed, status=1).err.count("revoked") >= 1


@pytest.mark.parametrize("path", ["none", "link", "/dev/null", ".nfsverity"])
def test_paths_that_cannot_be_signed_are_named(nfsverity: Any, alice: Any, signed: Path, path: str) -> None:
    (signed / "link").symlink_to("a.txt")
    assert path in nfsverity("sign", *alice.options, signed / path, status=4).err


def publishing(process: subprocess.Popen[bytes], directory: Path, head: bytes) -> bool:
    """Wait until the process has begun a new index; whether it still works at it."""
    known = set(directory.iterdir())
    while process.poll() is None:
        if set(directory.iterdir()) - known:
            return True
    return (directory / "head").read_bytes() == head


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_signer_that_is_stopped_leaves_the_publication_as_it_was(
    nfsverity: Any, alice: Any, make_keys: Any, records: Path, number: signal.Signals
) -> None:
    signed = records
    for index in range(600):  # enough slow signatures
        (signed / f"new-{index}").write_bytes(b"new")
    head = (signed / ".nfsverity" / "head").read_bytes()
    process = nfsverity.start("sign", *make_keys("slow", "rsa-pss").options, signed, stderr=subprocess.PIPE)
    stopped = publishing(process, signed / ".nfsverity", head)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    err = process.communicate(timeout=60)[1].decode()
    assert stopped, "it was done before it was stopped"
    status = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert process.returncode == status
    assert "Traceback" not in err
    assert (signed / ".nfsverity" / "head").read_bytes() == head
    verdicts = {f["path"]: f["verdict"] for f in nfsverity.json("verify", str(signed), status=1)["files"]}
    assert verdicts["a.txt"] == "verified"
    assert verdicts["new-0"] == "unsigned"
    nfsverity("sign", *alice.options, signed)
    assert nfsverity.json("verify", str(signed))["failed"] == 0
    left = {path.name.partition("-")[0] for path in (signed / ".nfsverity").iterdir()}
    assert left == {"head", "index", "lock", "trees"}
