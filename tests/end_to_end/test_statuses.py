# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The exit status that each kind of target ends with: the same for all commands, as `--help` has it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nfsverity_command.failure import Exit, weightiest

SERVED = ("cat", "get", "ls", "verify", "show", "export")
HERE = ("verify", "show", "export")
OF_FILES = ("cat", "export")
"""Commands that take no directory."""


def run(nfsverity: Any, command: str, target: str, directory: Path, status: int) -> Any:
    more = {"get": (directory / "got",), "export": ("-o", directory / "exported")}.get(command, ())
    for made in more[-1:]:
        assert not made.exists()
    return nfsverity(command, target, *more, status=status)


@pytest.mark.parametrize("command", SERVED)
def test_what_is_served(nfsverity: Any, url: str, form: str, command: str, tmp_path: Path) -> None:
    """What is not in a volume is proved not to be, and that is a verdict; else it is the server's word."""
    for name in ("none", "a.txt/none"):
        run(nfsverity, command, f"{url}/{name}", tmp_path, 1 if form == "volume" else 3)
    if command in OF_FILES:
        result = run(nfsverity, command, f"{url}/sub", tmp_path, 3)
        assert "it is a directory" in result.err
        assert ("the server answered" in result.err) is (form == "per-file")
    if command == "show" and form == "per-file":
        run(nfsverity, command, f"{url}/sub", tmp_path, 3)


@pytest.mark.parametrize("command", HERE)
def test_what_is_on_this_machine(nfsverity: Any, either: Path, form: str, command: str, tmp_path: Path) -> None:
    (either / "new").write_bytes(b"new")
    for name in ("none", "a.txt/none", "new/none"):
        result = run(nfsverity, command, str(either / name), tmp_path, 4)
        assert str(either / name) in result.err
    result = run(nfsverity, command, str(either / "new"), tmp_path, 1)
    assert ("absent" if form == "volume" else "unsigned") in result.err
    if command == "export" or (command == "show" and form == "per-file"):
        assert "it is a directory" in run(nfsverity, command, str(either / "sub"), tmp_path, 4).err


@pytest.mark.spec("fim-member-3")
@pytest.mark.parametrize("name", ["a.txt", "sub/deeper", "sub/deeper/a #?% b", "sub"])
def test_what_was_signed_and_is_missing(nfsverity: Any, either: Path, form: str, name: str) -> None:
    """To name it is as good as to name the tree."""
    whole = {"a.txt": 1, "sub/deeper": 1, "sub/deeper/a #?% b": 1, "sub": 3}[name]
    path = either / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = nfsverity.json("verify", str(path), status=1)
    by_tree = nfsverity.json("verify", str(either), status=1)
    verdict = "hidden" if form == "volume" else "mismatch"
    assert {file["verdict"] for file in report["files"]} == {verdict}
    missing = [file for file in by_tree["files"] if file["verdict"] != "verified"]
    assert len(report["files"]) == len(missing) >= whole
    if whole == 1 and name != "sub/deeper":
        assert nfsverity.json("show", str(path))["verified"], "what was signed of it is there all the same"


def test_an_empty_directory_that_is_missing(nfsverity: Any, alice: Any, tree: Path) -> None:
    (tree / "folder").mkdir()
    nfsverity("sign", *alice.options, tree)
    nfsverity("trust", "add", alice.certificate)
    (tree / "folder").rmdir()
    assert "hidden" in nfsverity("verify", tree / "folder", status=1).err
    (tree / "folder").write_bytes(b"")
    assert "mismatch" in nfsverity("verify", tree / "folder", status=1).err


def test_what_weighs_more_comes_first(nfsverity: Any, records: Path) -> None:
    assert weightiest(()) is Exit.OK
    assert weightiest((Exit.OK, Exit.INCOMPARABLE, Exit.DIFFERENT)) is Exit.DIFFERENT
    assert weightiest((Exit.LOCAL, Exit.PEER, Exit.UNVERIFIED)) is Exit.PEER
    assert weightiest((Exit.PEER, Exit.NOT_VERIFIED)) is Exit.NOT_VERIFIED
    nowhere = "nfsv://127.0.0.1:1/"
    nfsverity("verify", records, records / "none", nowhere, status=3)
    nfsverity("verify", records / "none", records, status=4)
    (records / "a.txt").write_bytes(b"jello\n")
    nfsverity("verify", records / "none", nowhere, records, status=1)
