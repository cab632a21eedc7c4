# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Symbolic links of a volume that are named themselves: served, and on this machine."""

from __future__ import annotations

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
