# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity export`, and `nfsverity verify --exported` by somebody who has nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import nfsverity as api
from nfsverity_client.trust_store import CONFIG_VARIABLE, STATE_VARIABLE

from .conftest import Nfsverity


@pytest.fixture
def elsewhere(tmp_path: Path, alice: Any) -> tuple[Nfsverity, Path]:
    """Another user, who believes alice, and a folder of theirs."""
    user = Nfsverity(tmp_path / "elsewhere")
    user("trust", "add", alice.certificate)
    return user, user.home


@pytest.mark.parametrize("form", ["volume", "records"])
def test_a_file_that_travels_alone(
    nfsverity: Any, alice: Any, tree: Path, tmp_path: Path, elsewhere: tuple[Nfsverity, Path], form: str
) -> None:
    nfsverity("sign", *alice.options, "--as-volume" if form == "volume" else "--per-file", tree)
    report = nfsverity.json("export", str(tree / "sub" / "tool"), "-o", str(tmp_path / "out"))
    assert (report["path"], report["form"], report["size"]) == ("sub/tool", form, (tmp_path / "out").stat().st_size)
    refused = nfsverity("export", tree / "sub" / "tool", "-o", tmp_path / "out", status=4)  # nothing is overwritten
    assert f"{tmp_path / 'out'}: File exists\n  what to do: remove it first, or choose another name" in refused.err
    user, home = elsewhere
    copy = Path(shutil.copy(tree / "sub" / "tool", home / "tool"))
    out = str(tmp_path / "out")
    shutil.rmtree(tree)
    (file,) = user.json("verify", "--exported", out, str(copy))["files"]
    assert (file["path"], file["verdict"], file["signers"][0]["fingerprint"]) == (
        "sub/tool", "verified", alice.fingerprint,
    )  # fmt: skip
    user("verify", "--exported", out, "--path", "sub/tool", "--volume", file["volume"], copy)

    def verdict(*options: str, path: Path = copy) -> str:
        (found,) = user.json("verify", "--exported", *options, str(path), status=1)["files"]
        return str(found["verdict"])

    assert verdict(out, "--path", "sub/other") == "wrong-path"
    assert verdict(out, "--volume", bytes(16).hex()) == "wrong-volume"
    assert verdict(out, path=Path(shutil.copy(copy, home / "another name"))) == "wrong-path"
    data = bytearray(Path(out).read_bytes())
    for at in range(0, len(data), 149):
        (home / "damaged").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert verdict(str(home / "damaged"), "--path", "sub/tool") != "verified"
    copy.write_bytes(b"#!/bin/sH\n")
    assert verdict(out) == "mismatch"
    nobody = Nfsverity(home / "nobody")
    (found,) = nobody.json("verify", "--exported", out, str(copy), status=1)["files"]
    assert found["verdict"] == "untrusted"


@pytest.mark.spec("fim-export-1")
def test_its_head_raises_the_mark(
    nfsverity: Any, alice: Any, signed: Path, tmp_path: Path, elsewhere: tuple[Nfsverity, Path]
) -> None:
    user, home = elsewhere
    copy = Path(shutil.copy(signed / "a.txt", home / "a.txt"))
    nfsverity("export", signed / "a.txt", "-o", tmp_path / "old")
    nfsverity("sign", *alice.options, "--renew", signed)
    nfsverity("export", signed / "a.txt", "-o", tmp_path / "new")
    user("verify", "--exported", tmp_path / "old", copy)
    user("verify", "--exported", tmp_path / "new", copy)
    (file,) = user.json("verify", "--exported", str(tmp_path / "old"), str(copy), status=1)["files"]
    assert file["verdict"] == "rollback"


@pytest.mark.parametrize("form", ["signed", "records"])
def test_of_a_served_file(
    nfsverity: Any, serve: Any, request: pytest.FixtureRequest, tmp_path: Path, form: str
) -> None:
    tree = request.getfixturevalue(form)
    url = serve(tree).url
    nfsverity("export", url + "/sub/tool", cwd=tmp_path)
    nfsverity("verify", "--exported", tmp_path / "tool.fim", tree / "sub" / "tool")
    nfsverity("export", tree / "sub" / "tool", "-o", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "tool.fim").read_bytes()
    nfsverity("export", url + "/none", cwd=tmp_path, status=None)
    assert not (tmp_path / "none.fim").exists()


def test_what_is_not_signed_and_mistakes_of_usage(nfsverity: Any, signed: Path, tmp_path: Path) -> None:
    (signed / "new").write_bytes(b"")
    nfsverity("export", signed / "new", "-o", tmp_path / "out", status=1)
    nfsverity("verify", "--exported", tmp_path / "out", signed / "a.txt", signed / "empty", status=2)
    nfsverity("verify", "--path", "a.txt", signed / "a.txt", status=2)
    assert not (tmp_path / "out").exists()


def test_by_the_library(alice: Any, signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    exported = api.export(signed / "a.txt")
    copy = Path(shutil.copy(signed / "a.txt", tmp_path / "copy"))
    verified = api.verify_export(exported, copy, b"a.txt", trust=[alice.certificate])
    assert (verified.path, verified.content.tree.size) == (b"a.txt", 6)
    with pytest.raises(api.VerificationError):
        api.verify_export(exported, copy, b"empty", trust=[alice.certificate])
    copy.write_bytes(b"jello\n")
    with pytest.raises(api.Mismatch):
        api.verify_export(exported, copy, b"a.txt", trust=[alice.certificate])
