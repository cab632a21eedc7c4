# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Symbolic links of a volume that are named themselves: served, and on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nfsverity as api

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
    (file,) = nfsverity.json("verify", str(linked / "out"), status=1)["files"]
    assert file["verdict"] == "hidden"


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


# what stands for the file that it leads to


def test_what_is_exported_of_a_link_is_the_file(nfsverity: Any, where: Where, linked: Path, tmp_path: Path) -> None:
    report = nfsverity("export", "--json", where("sub/up"), cwd=tmp_path).json
    assert (report["path"], report["output"], report["form"]) == ("a.txt", "a.txt.fim", "volume")
    verified = nfsverity.json("verify", "--exported", str(tmp_path / "a.txt.fim"), str(linked / "a.txt"))
    assert verified["verified"] == 1
    for name, verdict in (("out", "link-outside"), ("abs", "link-outside"), ("dangling", "absent")):
        result = nfsverity("export", where(name), cwd=tmp_path, status=1)
        assert f"{name}: {verdict}: " in result.err
        assert "--links" not in result.err


def test_links_are_followed_for_a_comparison(nfsverity: Any, where: Where, linked: Path) -> None:
    assert nfsverity("diff", where("sub/up"), linked / "a.txt").text == ""
    assert nfsverity("diff", where("to-dir"), linked / "sub").text == ""
    assert nfsverity("diff", where("to-file"), linked / "big.bin", status=5).text
    assert "link-outside" in nfsverity("diff", where("out"), linked / "a.txt", status=1).err


def test_the_library_follows_signed_links(linked: Path, alice: Any, tmp_path: Path) -> None:
    state = api.State(tmp_path / "state")
    assert api.verify(linked / "sub" / "up", trust=[alice.certificate], state=state).path == b"a.txt"
    assert list(api.diff(linked / "to-file", linked / "a.txt", trust=[alice.certificate])) == []
    (linked / "to-file").unlink()
    (linked / "to-file").symlink_to("big.bin")
    assert api.verify(linked / "to-file", trust=[alice.certificate], state=state).path == b"a.txt", "as it was signed"
    with pytest.raises(api.VerificationError, match="leads above the root"):
        api.verify(linked / "out", trust=[alice.certificate], state=state)


# ls, cat and get


def test_a_link_that_leads_nowhere_is_listed_itself(nfsverity: Any, linked: Path, serve: Any) -> None:
    url = serve(linked).url
    for name in LEAD_NOWHERE:
        assert nfsverity("ls", f"{url}/{name}").text == f"{name} -> {LINKS[name]}\n"
        (entry,) = nfsverity.json("ls", f"{url}/{name}")["entries"]
        assert (entry["type"], entry["name"], entry["target"]) == ("link", name, LINKS[name])
    assert nfsverity("ls", f"{url}/to-dir").text.splitlines()[-1] == "up -> ../to-file"


@pytest.mark.spec("fim-link-1")
def test_no_command_advises_an_option_that_it_has_not(nfsverity: Any, linked: Path, serve: Any, tmp_path: Path) -> None:
    url = serve(linked).url
    for command in ("cat", "export"):
        result = nfsverity(command, f"{url}/out", status=1)
        assert "link-outside" in result.err
        assert "`nfsverity show` says where the link leads" in result.err
    assert "--links all" in nfsverity("get", f"{url}/out", tmp_path / "got", status=1).err
    assert not (tmp_path / "got").is_symlink()
    (linked / "a.txt").write_bytes(b"not signed")
    advice = {}
    for command in ("cat", "verify"):
        wait = ("--wait", "0") if command == "cat" else ()
        result = nfsverity(command, *wait, f"{url}/a.txt", status=1)
        assert "updating" in result.err
        advice[command] = "--wait" in result.err
    assert advice == {"cat": True, "verify": False}
    assert "--wait" not in str(nfsverity.json("verify", f"{url}/a.txt", status=1))


@pytest.mark.spec("fim-link-1", "fim-link-2")
@pytest.mark.parametrize("name", LEAD_NOWHERE)
def test_a_link_that_leads_nowhere_is_made_for_who_asks_for_it(
    nfsverity: Any, linked: Path, serve: Any, tmp_path: Path, name: str
) -> None:
    url = f"{serve(linked).url}/{name}"
    (tmp_path / "x").mkdir()
    (tmp_path / "there").symlink_to("x")
    for destination, made in (("new", "new"), ("new", "new"), ("x", f"x/{name}"), ("there", "there")):
        report = nfsverity.json("get", "--links", "all", url, str(tmp_path / destination))
        assert os.readlink(tmp_path / made) == LINKS[name]
        assert report["destination"] == str(tmp_path / made)
        (file,) = report["files"]
        assert (file["verdict"], file["target"], report["verified"]) == ("verified", LINKS[name], 0)
    assert os.listdir(tmp_path / "x") == [name], "nothing is written through a link"


def test_a_link_to_a_file_is_got_as_the_file(nfsverity: Any, linked: Path, serve: Any, tmp_path: Path) -> None:
    url = serve(linked).url
    for links in ("inside", "all"):
        nfsverity("get", "--links", links, f"{url}/sub/up", tmp_path / links)
        assert not (tmp_path / links).is_symlink()
        assert (tmp_path / links).read_bytes() == b"hello\n"
    assert "absent" in nfsverity("get", "--links", "all", f"{url}/none", tmp_path / "none", status=1).err
