# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a publisher revokes, as its readers keep it: from servers and trees, withheld, expired and forged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nfsverity_client.revocations import RevocationStore
from nfsverity_client.state import State


@pytest.fixture
def signed(either: Path) -> Path:
    return either


FILES = 6
"""In the tree."""


def verdicts(nfsverity: Any, where: str | Path, status: int) -> set[str]:
    """Of files, and of a volume that is not accepted as a whole."""
    report = nfsverity.json("verify", str(where), status=status)
    return {each["verdict"] for each in report["files"] + report["errors"]}


@pytest.fixture
def two(nfsverity: Any, signed: Path, alice: Any, bob: Any, form: str) -> Path:
    """Newer versions are signed by bob now, in a volume of all that is in it; the user believes both."""
    nfsverity("trust", "add", bob.certificate)
    for path in (signed / "big.bin", signed / "sub" / "tool"):
        path.write_bytes(b"newer")
    of_bob = (signed,) if form == "volume" else (signed / "big.bin", signed / "sub" / "tool")
    nfsverity("sign", *bob.options, *of_bob)
    return signed


@pytest.mark.spec("fim-rev-11", "fim-rev-14", "fim-rev-15", "fip-revoke-7", "fip-revoke-8", "fip-revoke-10")
def test_what_is_revoked_stays_so_when_the_server_is_silent_again(
    nfsverity: Any, serve: Callable[..., Any], two: Path, alice: Any, bob: Any, form: str
) -> None:
    url = serve(two).url
    assert nfsverity("cat", f"{url}/big.bin").out == b"newer"
    nfsverity("revoke", *alice.options, "--revoke-key", bob.certificate, two)
    result = nfsverity("cat", f"{url}/big.bin", status=1)
    assert result.out == b""
    assert "revoked" in result.err
    if form == "volume":
        assert "revoked" in nfsverity("cat", f"{url}/a.txt", status=1).err
    else:
        assert nfsverity("cat", f"{url}/a.txt").out == b"hello\n"
    (item,) = nfsverity.json("trust", "list")["revocations"]
    assert item["item"].startswith("key:sha256:")
    for path in (two / ".nfsverity").glob("revocation*"):
        path.unlink()
    silent = serve(two, "--listen", "127.0.0.1:0")
    assert "revoked" in nfsverity("cat", f"{silent.url}/big.bin", status=1).err
    assert nfsverity.json("trust", "list")["revocations"] == [item]
    dropped = nfsverity.json("trust", "reset", "--revocations", "--yes", f"{url}/")
    assert dropped["revocations"] == [{key: item[key] for key in ("item", "note", "since")}]
    assert nfsverity("cat", f"{silent.url}/big.bin").out == b"newer"


@pytest.mark.spec("fim-rev-15", "fim-rev-11")
def test_a_tree_on_this_machine_has_its_revocation_with_it(
    nfsverity: Any, two: Path, alice: Any, bob: Any, form: str
) -> None:
    nfsverity("revoke", *alice.options, "--revoke-key", bob.certificate, two)
    report = nfsverity.json("verify", str(two), status=1)
    revoked = {file["path"] for file in report["files"] if file["verdict"] == "revoked"}
    assert revoked == (set() if form == "volume" else {"big.bin", "sub/tool"})
    assert [error["verdict"] for error in report["errors"]] == (["revoked"] if form == "volume" else [])
    assert len(nfsverity.json("trust", "list")["revocations"]) == 1
    for path in (two / ".nfsverity").glob("revocation*"):
        path.unlink()
    assert verdicts(nfsverity, two / "big.bin", 1) == {"revoked"}


def test_a_version_is_revoked(nfsverity: Any, serve: Callable[..., Any], signed: Path, alice: Any) -> None:
    url = serve(signed).url
    assert nfsverity("cat", f"{url}/a.txt").out == b"hello\n"
    nfsverity("revoke", *alice.options, "--revoke-version", signed / "a.txt", signed)
    assert verdicts(nfsverity, f"{url}/a.txt", 1) == {"revoked"}
    assert verdicts(nfsverity, f"{url}/empty", 0) == {"verified"}
    for where in (f"{url}/a.txt", str(signed / "a.txt")):
        assert nfsverity.json("show", where, status=1)["error"]["verdict"] == "revoked"
    (signed / "a.txt").write_bytes(b"mended\n")
    nfsverity("sign", *alice.options, signed / "a.txt")
    assert nfsverity("cat", f"{url}/a.txt").out == b"mended\n"


@pytest.mark.spec("fip-revoke-11")
def test_a_server_that_cannot_say_what_is_revoked_is_not_read(
    nfsverity: Any, serve: Callable[..., Any], signed: Path, alice: Any, form: str
) -> None:
    nfsverity("revoke", *alice.options, "--revoke-version", signed / "a.txt", signed)
    (signed / ".nfsverity" / "revocation").write_bytes(b"")
    url = serve(signed).url
    judging = [["cat", f"{url}/empty"], ["verify", url], ["get", url, signed.parent / "copy"]]
    for arguments in [*judging, ["ls", url]] if form == "volume" else judging:
        result = nfsverity(*arguments, status=3)
        assert "what it revokes: the server answered IO" in result.err
        assert arguments[0] == "verify" or result.out == b""
    assert not (signed.parent / "copy").exists()


@pytest.mark.spec("fim-rev-9", "fip-revoke-8")
def test_a_revocation_of_a_stranger_is_told_and_changes_nothing(
    nfsverity: Any, serve: Callable[..., Any], signed: Path, make_keys: Any, alice: Any
) -> None:
    stranger = make_keys("stranger")
    said = nfsverity("revoke", *stranger.options, "--revoke-key", alice.certificate, signed)
    assert "warning" in said.err
    assert "nothing here is signed by" in said.err
    assert "warning" not in nfsverity("revoke", *stranger.options, signed).err, "its list is here by now"
    for where in (f"{serve(signed).url}/a.txt", str(signed / "a.txt")):
        result = nfsverity("verify", where)
        assert "1 file verified" in result.text
        assert "warning: " in result.err
        assert "the revocation" in result.err
        assert "untrusted" in result.err
        assert result.err.count("untrusted") == 1
    assert nfsverity.json("trust", "list")["revocations"] == []
    other = make_keys("other").options
    said = nfsverity("revoke", *other, signed, status=4)
    assert "would be replaced" in said.err
    assert "what to do: sign with a key of the tree, too; where those are lost or stolen, --take-over" in said.err
    assert "warning" in nfsverity("revoke", *other, "--take-over", signed).err


@pytest.mark.spec("fim-rev-7", "fim-rev-10", "fim-rev-9")
def test_one_that_takes_something_back_is_refused(
    nfsverity: Any, serve: Callable[..., Any], signed: Path, alice: Any, bob: Any
) -> None:
    """A publisher that lost its list, say, or a copy of the tree of which another list was made."""
    other = shutil.copytree(signed, signed.parent / "other")
    nfsverity("revoke", *alice.options, "--revoke-key", bob.certificate, signed)
    nfsverity("verify", f"{serve(signed).url}/")
    nfsverity("revoke", *alice.options, "--revoke-version", other / "empty", other)
    result = nfsverity("verify", f"{serve(other).url}/a.txt")
    assert "rollback: a revocation without what one before it revokes" in result.err
    assert len(nfsverity.json("trust", "list")["revocations"]) == 1


@pytest.mark.spec("fim-rev-12")
def test_a_list_that_has_ended_lets_nothing_pass(
    nfsverity: Any, serve: Callable[..., Any], signed: Path, alice: Any
) -> None:
    url = serve(signed).url
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 12))
    nfsverity("revoke", *alice.options, "--not-after", soon, signed)
    nfsverity("verify", f"{url}/a.txt")
    store = RevocationStore(State(nfsverity.home / "state"))
    (volume,) = (bytes.fromhex(item["volume"]) for item in nfsverity.json("trust", "list")["bindings"])
    end = store.of(volume).not_after
    store.state.close()
    while time.time() <= end + 1:
        time.sleep(0.2)
    assert verdicts(nfsverity, f"{url}/a.txt", 1) == {"record-expired"}
    nfsverity("revoke", *alice.options, signed)
    assert verdicts(nfsverity, f"{url}/a.txt", 0) == {"verified"}


@pytest.mark.spec("fim-mark-8", "fim-rev-8")
def test_a_stolen_keys_last_generation_is_overcome(
    nfsverity: Any, serve: Callable[..., Any], signed: Path, alice: Any, bob: Any, form: str
) -> None:
    """A thief signs a generation near the end with bob's key; alice's newer version passes once that is revoked."""
    nfsverity("trust", "add", bob.certificate)
    url = serve(signed).url
    nfsverity("verify", f"{url}/")
    stolen = shutil.copytree(signed, signed.parent / "stolen")
    (stolen / "a.txt").write_bytes(b"of the thief\n")
    sign_ahead(stolen, bob, form)
    thief = serve(stolen, "--listen", "127.0.0.1:0")
    assert nfsverity("cat", f"{thief.url}/a.txt").out == b"of the thief\n"
    (signed / "a.txt").write_bytes(b"of alice\n")
    nfsverity("sign", *alice.options, signed / "a.txt")
    assert "rollback" in nfsverity("cat", f"{url}/a.txt", status=1).err
    nfsverity("revoke", *alice.options, "--revoke-key", bob.certificate, signed)
    assert nfsverity("cat", f"{url}/a.txt").out == b"of alice\n"
    assert nfsverity.json("verify", f"{url}/")["verified"] == FILES
    assert "revoked" in nfsverity("cat", f"{thief.url}/a.txt", status=1).err


def sign_ahead(tree: Path, keys: Any, form: str) -> None:
    """Signs the tree as if it were as much later as a statement may be issued ahead."""
    from nfsverity_publisher.keys import load_signing_key
    from nfsverity_publisher.publication import publish
    from nfsverity_publisher.transaction import Options
    from nfsverity_publisher.volume import publish_volume

    signers = [load_signing_key(keys.key, keys.certificate)]
    with pytest.MonkeyPatch.context() as patched:
        now = time.time_ns()
        patched.setattr(time, "time_ns", lambda: now + 200 * 10**9)
        if form == "volume":
            publish_volume(tree, [b""], signers, Options())
        else:
            publish(tree, [b"a.txt"], signers, Options())


@pytest.mark.spec("fim-mark-8", "fim-rev-8")
def test_a_stolen_keys_last_generation_is_overcome_on_this_machine(
    nfsverity: Any, signed: Path, alice: Any, bob: Any, form: str
) -> None:
    """The same where the tree lies here, and the thief's metadata had been put there."""
    nfsverity("trust", "add", bob.certificate)
    nfsverity("verify", signed)
    before = shutil.copytree(signed, signed.parent / "before")
    (signed / "a.txt").write_bytes(b"of the thief\n")
    sign_ahead(signed, bob, form)
    assert nfsverity.json("verify", str(signed))["verified"] == FILES
    shutil.rmtree(signed)
    shutil.copytree(before, signed, copy_function=shutil.copy2)
    (signed / "a.txt").write_bytes(b"of alice\n")
    nfsverity("sign", *alice.options, signed / "a.txt")
    assert verdicts(nfsverity, signed / "a.txt", 1) == {"rollback"}
    nfsverity("revoke", *alice.options, "--revoke-key", bob.certificate, signed)
    assert nfsverity.json("verify", str(signed))["verified"] == FILES


@pytest.mark.spec("fim-rev-16", "fim-rev-17")
def test_nothing_is_said_to_be_not_revoked(nfsverity: Any, signed: Path) -> None:
    for arguments in (("verify", signed), ("show", signed / "a.txt"), ("trust", "list")):
        result = nfsverity(*arguments)
        assert "not revoked" not in result.text + result.err
