# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity diff`: of files and of trees, served and on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from nfsverity._difference import State
from nfsverity_command.diff import STATES

BIG = bytes(range(256)) * 2048
UNIT = 65536
FILES = 6
"""In the tree."""
CHANGED = BIG[:UNIT] + b"!" + BIG[UNIT + 1 : 5 * UNIT] + b"!!" + BIG[5 * UNIT + 2 :] + b"more"


def test_the_states_are_those_of_the_library() -> None:
    assert tuple(State) == STATES


@pytest.fixture
def signed(either: Path) -> Path:
    return either


@pytest.fixture
def newer(nfsverity: Any, alice: Any, signed: Path, tmp_path: Path) -> Path:
    """Another version of the signed tree."""
    root = shutil.copytree(signed, tmp_path / "newer")
    (root / "big.bin").write_bytes(CHANGED)
    (root / "a.txt").unlink()
    (root / "sub" / "tool").chmod(0o644)
    (root / "sub" / "new").mkdir()
    (root / "sub" / "new" / "file").write_bytes(b"new")
    nfsverity("sign", *alice.options, root)
    return root


# files


RANGES = """\
bytes 65536 to 131071 differ
bytes 327680 to 393215 differ
bytes 524288 to 524291 are only in B
"""


def test_two_served_files(nfsverity: Any, serve: Any, signed: Path, newer: Path) -> None:
    a, b = serve(signed).url, serve(newer).url
    text = nfsverity("diff", a + "/big.bin", b + "/big.bin", status=5).text
    generations = [nfsverity.json("show", url + "/big.bin")["generation"] for url in (a, b)]
    assert text == (
        RANGES + "3 ranges, 131,076 bytes of 524,292; 17 hashes asked for\n"
        f"A is generation {generations[0]}, B is generation {generations[1]}\n"
    )
    assert nfsverity("diff", a + "/big.bin", a + "/big.bin").text == ""
    assert "only in A" in nfsverity("diff", b + "/big.bin", a + "/big.bin", status=5).text
    result = nfsverity("diff", "--quiet", a + "/big.bin", b + "/big.bin", status=5)
    assert (result.out, result.err) == (b"", "")


def test_as_json(nfsverity: Any, serve: Any, signed: Path, newer: Path) -> None:
    url = serve(newer).url
    report = nfsverity.json("diff", str(signed / "big.bin"), url + "/big.bin", status=5)
    (file,) = report["files"]
    assert file["ranges"] == [
        {"offset": "65536", "length": "65536", "side": "both"},
        {"offset": "327680", "length": "65536", "side": "both"},
        {"offset": "524288", "length": "4", "side": "b"},
    ]
    assert (file["path"], file["state"], file["a"]["size"], file["b"]["size"]) == ("", "changed", "524288", "524292")
    assert int(file["a"]["generation"]) < int(file["b"]["generation"])
    assert (report["ranges"], report["bytes"], report["changed"], report["same"]) == (3, "131076", 1, 0)
    assert 0 < int(report["hashes"]) < 20
    assert (report["a"], report["b"]) == (str(signed / "big.bin"), url + "/big.bin")
    same = nfsverity.json("diff", str(signed / "big.bin"), str(signed / "big.bin"))
    assert (same["files"][0]["state"], same["files"][0]["ranges"], same["hashes"]) == ("same", [], "0")


def test_no_content_crosses_the_wire(nfsverity: Any, serve: Any, slow: Any, signed: Path, newer: Path) -> None:
    proxy = slow(serve(newer).port, 4096)
    assert nfsverity("diff", signed / "big.bin", proxy.url + "/big.bin", status=5).text.startswith(RANGES)
    assert not proxy.stalled.is_set()


def test_only_the_mode(nfsverity: Any, signed: Path, newer: Path) -> None:
    result = nfsverity("diff", signed / "sub" / "tool", newer / "sub" / "tool", status=5)
    assert result.text.startswith("the content is the same, but only one of them is executable\n")


@pytest.mark.spec("fim-diff-2")
def test_what_cannot_be_compared(nfsverity: Any, alice: Any, signed: Path, newer: Path) -> None:
    nfsverity("sign", *alice.options, "--unit-size", "4096", newer)
    result = nfsverity("diff", signed / "big.bin", newer / "big.bin", status=6)
    assert "different unit sizes, 65536 and 4096" in result.err
    assert "nfsverity get" in result.err
    assert nfsverity.json("diff", str(signed / "big.bin"), str(newer / "big.bin"), status=6)["error"]["verdict"] is None
    report = nfsverity.json("diff", "--ranges", str(signed), str(newer), status=5)
    states = {file["path"]: file["state"] for file in report["files"]}
    assert (states["big.bin"], states["empty"], states["sub/tool"]) == ("changed", "same", "incomparable")
    assert next(file for file in report["files"] if file["path"] == "big.bin")["ranges"] is None


# kept trees


@pytest.fixture
def large(nfsverity: Any, alice: Any, signed: Path) -> Path:
    """A file whose tree is kept in a file of its own, in two versions: in `signed` and beside it."""
    (signed / "large").write_bytes(os.urandom(6 * 2**20))
    nfsverity("sign", *alice.options, "--unit-size", "4096", signed / "large")
    other = shutil.copytree(signed, signed.parent / "other")
    with (other / "large").open("r+b") as file:
        file.seek(1000 * 4096)
        was = file.read(1)
        file.seek(1000 * 4096)
        file.write(bytes([was[0] ^ 1]))
    nfsverity("sign", *alice.options, other / "large")
    return other


def kept(root: Path) -> list[Path]:
    found = list((root / ".nfsverity" / "trees").iterdir())
    assert found
    return found


@pytest.mark.spec("fim-cache-1", "fim-cache-3", "fim-diff-1")
@pytest.mark.parametrize("fate", ["whole", "missing", "damaged", "cut off", "swapped"])
def test_whatever_becomes_of_a_kept_tree(nfsverity: Any, signed: Path, large: Path, fate: str) -> None:
    for path in kept(signed):
        data = path.read_bytes()
        path.unlink()
        if fate == "damaged":
            path.write_bytes(bytes(byte ^ 1 for byte in data))
        elif fate == "cut off":
            path.write_bytes(data[:-1])
        elif fate == "swapped":
            path.write_bytes(max(kept(large), key=lambda kept: kept.stat().st_mtime).read_bytes())
        elif fate == "whole":
            path.write_bytes(data)
    result = nfsverity("diff", signed / "large", large / "large", status=5)
    assert result.text.startswith("bytes 4096000 to 4100095 differ\n1 range, 4,096 bytes of 6,291,456\n")


@pytest.mark.spec("fim-diff-1")
def test_neither_a_kept_tree_nor_the_content(nfsverity: Any, signed: Path, large: Path) -> None:
    for path in kept(large):
        path.unlink()
    (large / "large").write_bytes((signed / "large").read_bytes())
    result = nfsverity("diff", signed / "large", large / "large", status=1)
    assert "mismatch" in result.err
    (large / "large").write_bytes(b"short")
    assert "the size is not what was signed" in nfsverity("diff", signed / "large", large / "large", status=1).err


# trees


@pytest.mark.parametrize("served", ["", "a", "b", "ab"])
def test_trees(nfsverity: Any, serve: Any, signed: Path, newer: Path, form: str, served: str) -> None:
    a = serve(signed).url + "/" if "a" in served else signed
    b = serve(newer).url + "/" if "b" in served else newer
    result = nfsverity("diff", a, b, status=5)
    lines = result.text.splitlines()
    folder = ["added         sub/new/"] if form == "volume" else []
    assert lines[:-1] == [
        "removed       a.txt",
        "changed       big.bin",
        *folder,
        "mode          sub/tool",
        "added         sub/new/file",
    ]
    counts = "5 same, 1 changed, 1 mode, 2 added" if folder else "3 same, 1 changed, 1 mode, 1 added"
    assert lines[-1].startswith(f"{counts}, 1 removed")
    text = nfsverity("diff", "--ranges", a, b, status=5).text
    assert "changed       big.bin\n" + "".join(f"    {line}\n" for line in RANGES.splitlines()) in text
    assert nfsverity("diff", a, a).text == ""
    below = nfsverity("diff", f"{a}/sub" if isinstance(a, Path) else f"{a}sub", newer / "sub", status=5).text
    folder = ["added         new/"] if form == "volume" else []
    assert below.splitlines()[:-1] == [*folder, "mode          tool", "added         new/file"]


def test_trees_as_json(nfsverity: Any, signed: Path, newer: Path, form: str) -> None:
    report = nfsverity.json("diff", str(signed), str(newer), status=5)
    same, added = (5, 2) if form == "volume" else (3, 1)
    assert {state: report[state] for state in STATES} == {
        "same": same, "changed": 1, "mode": 1, "added": added, "removed": 1, "incomparable": 0, "failed": 0
    }  # fmt: skip
    assert len(report["files"]) == same + added + 3
    files = {file["path"]: file for file in report["files"]}
    assert (files["a.txt"]["b"], files["sub/new/file"]["a"]) == (None, None)
    assert files["big.bin"]["ranges"] is None, "not asked for"
    odd = files[None]
    assert (odd["path_base64"], odd["state"]) == ("c3ViL2NhZuk=", "same")


def test_a_file_that_became_a_directory(nfsverity: Any, alice: Any, signed: Path, tmp_path: Path, form: str) -> None:
    other = shutil.copytree(signed, tmp_path / "other")
    (other / "a.txt").unlink()
    (other / "a.txt").mkdir()
    (other / "a.txt" / "b").write_bytes(b"b")
    nfsverity("sign", *alice.options, other)
    lines = nfsverity("diff", signed, other, status=5).text.splitlines()
    folder = ["added         a.txt/"] if form == "volume" else []
    assert lines[:-1] == ["removed       a.txt", *folder, "added         a.txt/b"]


@pytest.mark.spec("fim-diff-5")
@pytest.mark.parametrize("served", [False, True])
def test_links_and_directories_of_volumes(
    nfsverity: Any, serve: Any, alice: Any, tree: Path, tmp_path: Path, served: bool
) -> None:
    (tree / "link").symlink_to("a.txt")
    (tree / "file").symlink_to("a.txt")
    (tree / "gone").mkdir()
    other = shutil.copytree(tree, tmp_path / "other", symlinks=True)
    (other / "link").unlink()
    (other / "link").symlink_to("big.bin")
    (other / "file").unlink()
    (other / "file").write_bytes(b"no link any more")
    (other / "gone").rmdir()
    nfsverity("sign", *alice.options, tree, other)
    nfsverity("trust", "add", alice.certificate)
    a, b = (serve(tree).url + "/", serve(other).url + "/") if served else (tree, other)
    expected = ["removed       file -> a.txt", "added         file", "removed       gone/",
                "changed       link -> big.bin (was a.txt)", "8 same, 1 changed, 1 added, 2 removed"]  # fmt: skip
    assert nfsverity("diff", a, b, status=5).text.splitlines() == expected
    report = nfsverity.json("diff", str(a), str(b), status=5)
    (link,) = (each for each in report["files"] if each["path"] == "link")
    assert (link["type"], link["a"]["target"], link["b"]["target"]) == ("link", "a.txt", "big.bin")
    assert (link["a"]["size"], link["a"]["executable"], link["ranges"]) == (None, None, None)
    assert int(link["a"]["generation"]) < int(link["b"]["generation"])
    assert nfsverity("diff", "--quiet", a, b, status=5).out == b""


def test_a_volume_beside_a_tree_of_records(nfsverity: Any, serve: Any, alice: Any, tree: Path, tmp_path: Path) -> None:
    """Files are what both have."""
    (tree / "link").symlink_to("a.txt")
    (tree / "gone").mkdir()
    other = shutil.copytree(tree, tmp_path / "other", symlinks=True)
    (other / "empty").unlink()
    nfsverity("sign", *alice.options, tree)
    nfsverity("sign", "--per-file", *alice.options, other)
    nfsverity("trust", "add", alice.certificate)
    for a in (tree, serve(tree).url + "/"):
        for b in (other, serve(other).url + "/"):
            lines = nfsverity("diff", a, b, status=5).text.splitlines()
            assert lines == ["removed       empty", "5 same, 1 removed"]


@pytest.mark.spec("fim-diff-1")
def test_what_does_not_verify(nfsverity: Any, serve: Any, alice: Any, bob: Any, records: Path, tmp_path: Path) -> None:
    newer = shutil.copytree(records, tmp_path / "newer")
    (newer / "a.txt").write_bytes(b"newer\n")
    (newer / "new").mkdir()
    (newer / "new" / "file").write_bytes(b"new")
    nfsverity("sign", *alice.options, newer)
    nfsverity("sign", *bob.options, "--unit-size", "4096", newer / "new")
    url = serve(newer, "--all").url
    (newer / "unsigned").write_bytes(b"x")
    report = nfsverity.json("diff", str(records), url + "/", status=1)
    failed = {file["path"]: file["error"]["verdict"] for file in report["files"] if file["state"] == "failed"}
    assert failed == {"new/file": "untrusted", "unsigned": "unsigned"}
    assert report["changed"] == 1, "all else is compared"
    assert "untrusted" in nfsverity("diff", newer / "new" / "file", records / "empty", status=1).err
    assert "unsigned" in nfsverity("diff", records / "empty", url + "/unsigned", status=1).err


@pytest.mark.spec("fim-diff-1")
@pytest.mark.parametrize("served", [False, True])
def test_volumes_that_do_not_verify(
    nfsverity: Any, serve: Any, bob: Any, signed: Path, form: str, tmp_path: Path, served: bool
) -> None:
    """One head is for all of it, or one record for each file."""
    of_bob = shutil.copytree(signed, tmp_path / "of-bob")
    nfsverity("sign", *bob.options, of_bob)
    other = serve(of_bob).url + "/" if served else of_bob
    for one in (signed, other):
        result = nfsverity("diff", one, other, status=1)
        assert result.err.count(": untrusted: ") == (1 if form == "volume" else FILES)
        assert "same" not in result.text
    of_file = f"{other}a.txt" if served else of_bob / "a.txt"
    assert "untrusted" in nfsverity("diff", signed / "a.txt", of_file, status=1).err


def test_what_cannot_be_asked_for(nfsverity: Any, url: str, tree: Path, form: str) -> None:
    result = nfsverity("diff", url + "/none", url + "/a.txt", status=1 if form == "volume" else 3)
    assert f"{url}/none" in result.err
    assert ("absent" in result.err) is (form == "volume")
    assert "name two files" in nfsverity("diff", url + "/", url + "/a.txt", status=2).err
    assert "unsigned" in nfsverity("diff", tree / "a.txt", url + "/a.txt", status=1).err
    assert "No such file" in nfsverity("diff", tree / "none", url + "/a.txt", status=4).err
