# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Symbolic links of a volume that are named themselves: served, and on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LINKS = {"to-file": "a.txt", "to-dir": "sub", "sub/up": "../to-file", "dangling": "none", "out": "../x", "abs": "/etc"}
LEAD_NOWHERE = ("dangling", "out", "abs")
Where = Callable[[str], str]


@pytest.fixture
def linked(nfsverity: Any, alice: Any, tree: Path) -> Path:
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    nfsverity("sign", *alice.options, tree)
    nfsverity("trust", "add", alice.certificate)
    return tree


@pytest.fixture(params=["served", "here"])
def where(request: pytest.FixtureRequest, linked: Path, serve: Any) -> Where:
    """Names something in the tree, as it is served and as it lies here."""
    if request.param == "here":
        return lambda name: str(linked / name)
    url = serve(linked).url
    return lambda name: f"{url}/{name}"


# verify


@pytest.mark.parametrize(("name", "files"), [("to-file", 1), ("sub/up", 1), ("to-dir", 3), ("to-dir/up", 1)])
def test_a_link_is_verified_with_what_it_leads_to(nfsverity: Any, where: Where, name: str, files: int) -> None:
    report = nfsverity.json("verify", where(name))
    assert (report["links"], report["verified"], report["failed"]) == (1, files, 0)
    link, *others = report["files"]
    assert (link["verdict"], link["size"]) == ("verified", None)
    assert link["target"] == LINKS[name.replace("to-dir/", "sub/")]
    assert link["volume"] == others[0]["volume"]
    assert all(other["target"] is None for other in others)
    assert "1 link as signed; " in nfsverity("verify", where(name)).text


@pytest.mark.parametrize("name", LEAD_NOWHERE)
def test_a_link_that_leads_out_is_verified_alone(nfsverity: Any, where: Where, name: str) -> None:
    result = nfsverity("verify", where(name))
    assert "1 link as signed; 0 files verified" in result.text
    assert f"{name} leads to nothing in the volume" in result.err


@pytest.mark.spec("fim-member-4")
def test_a_link_here_that_was_changed(nfsverity: Any, linked: Path) -> None:
    (linked / "to-file").unlink()
    (linked / "to-file").symlink_to("big.bin")
    (linked / "new").symlink_to("a.txt")
    (linked / "out").unlink()
    for name, verdict in (("to-file", "mismatch"), ("new", "absent")):
        (file,) = nfsverity.json("verify", str(linked / name), status=1)["files"]
        assert (file["verdict"], file["error"]["kind"]) == (verdict, "verification")
    assert "No such file" in nfsverity("verify", linked / "out", status=4).err


def test_a_link_beside_a_tree_is_followed_to_it(nfsverity: Any, linked: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(linked)
    report = nfsverity.json("verify", str(tmp_path / "current"))
    assert (report["links"], report["verified"]) == (0, 6)


def test_a_link_in_a_tree_of_records_is_not_signed(nfsverity: Any, records: Path) -> None:
    (records / "link").symlink_to("a.txt")
    for command in ("verify", "show", "export"):
        result = nfsverity(command, records / "link", status=1)
        assert "this symbolic link is not signed: name the file that it leads to" in result.err


# show


@pytest.mark.parametrize("name", LINKS)
def test_what_is_signed_of_a_link_is_shown(nfsverity: Any, alice: Any, where: Where, name: str) -> None:
    shown = nfsverity.json("show", where(name))
    assert (shown["type"], shown["path"], shown["target"], shown["verified"]) == ("link", name, LINKS[name], True)
    assert (shown["size"], shown["executable"], shown["mtime"]) == (None, None, None)
    head = nfsverity.json("show", where(""))
    assert (shown["head"]["tag"], shown["head"]["entries"]) == (head["tag"], head["entries"])
    assert shown["root"] == head["root"]
    assert shown["attestations"][0]["fingerprint"] == alice.fingerprint
    text = nfsverity("show", where(name)).text
    assert f"target      {LINKS[name]}\n" in text
    assert f"member      entry {shown['head']['entry']} of {shown['head']['entries']}" in text


def test_links_on_the_way_are_followed_when_a_file_is_shown(nfsverity: Any, where: Where) -> None:
    shown = nfsverity.json("show", where("to-dir/tool"))
    assert (shown["type"], shown["path"], shown["size"], shown["verified"]) == ("file", "sub/tool", "10", True)


def test_a_directory_is_shown_as_an_entry(nfsverity: Any, where: Where) -> None:
    shown = nfsverity.json("show", where("sub/deeper"))
    assert (shown["type"], shown["path"], shown["target"], shown["verified"]) == ("directory", "sub/deeper", None, True)


def test_nothing_is_proved_by_a_head_that_is_not_believed(nfsverity: Any, alice: Any, where: Where) -> None:
    nfsverity("trust", "remove", alice.fingerprint)
    shown = nfsverity.json("show", where("to-file"), status=1)
    assert (shown["target"], shown["verified"], shown["error"]["verdict"]) == ("a.txt", False, "untrusted")
    for name in ("to-file/none", "sub/none") if "://" in where("") else ():
        assert "untrusted" in nfsverity("show", where(name), status=1).err
        assert nfsverity("show", where(name), status=1).out == b""


# the head


def test_the_head_is_shown(nfsverity: Any, alice: Any, bob: Any, where: Where, linked: Path) -> None:
    shown = nfsverity.json("show", where(""))
    assert (shown["type"], shown["path"], shown["label"], shown["verified"]) == ("volume", "", "tree", True)
    assert shown["entries"] == str(6 + 2 + len(LINKS))
    assert (shown["not_after"], shown["head"], shown["size"], shown["mark"]) == (None, None, None, None)
    assert [one["fingerprint"] for one in shown["attestations"]] == [alice.fingerprint]
    text = nfsverity("show", where("")).text
    for line in (
        f"generation  {shown['generation']}",
        f"entries     {shown['entries']}",
        f"root        {shown['root']}",
    ):
        assert f"{line}\n" in text
    assert 'signer 1    "CN=alice-ed25519", scheme ed25519\n' in text
    assert "not after   does not expire\n" in text
    assert nfsverity.json("trust", "list")["bindings"] == [], "to look at it binds nothing"
    nfsverity("verify", where(""))
    assert nfsverity.json("show", where(""))["mark"]["generation"] == shown["generation"]
    nfsverity("sign", *bob.options, *alice.options, "--days", "3", linked)
    later = nfsverity.json("show", where(""))
    assert int(later["generation"]) > int(shown["generation"])
    assert int(later["not_after"]) > int(later["issued"])
    assert later["root"] == shown["root"]
    believed = {one["fingerprint"]: one["verified"] for one in later["attestations"]}
    assert believed == {alice.fingerprint: True, bob.fingerprint: False}


def test_an_older_head_is_shown_as_that(nfsverity: Any, alice: Any, linked: Path, tmp_path: Path) -> None:
    nfsverity("verify", linked)
    before = shutil.copytree(linked / ".nfsverity", tmp_path / "before")
    (linked / "a.txt").write_bytes(b"newer")
    nfsverity("sign", *alice.options, linked)
    nfsverity("verify", linked)
    shutil.rmtree(linked / ".nfsverity")
    shutil.copytree(before, linked / ".nfsverity")
    shown = nfsverity.json("show", str(linked), status=1)
    assert (shown["verified"], shown["error"]["verdict"]) == (False, "rollback")
    assert int(shown["mark"]["generation"]) > int(shown["generation"])


def test_a_tree_of_records_has_no_head(nfsverity: Any, records: Path, serve: Any) -> None:
    assert "only files have records" in nfsverity("show", records, status=4).err
    assert "a directory" in nfsverity("show", serve(records).url + "/", status=3).err
