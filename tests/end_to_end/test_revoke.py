# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity revoke`: by the publisher, seen by everybody else."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

FILES = 6


def spki(certificate: Path) -> bytes:
    """By the openssl command: the public key in PEM."""
    command = ["openssl", "x509", "-in", str(certificate), "-pubkey", "-noout"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def spki_digest(certificate: Path) -> str:
    command = ["openssl", "pkey", "-pubin", "-outform", "DER"]
    der = subprocess.run(command, check=True, capture_output=True, input=spki(certificate)).stdout
    return hashlib.sha256(der).hexdigest()


@pytest.mark.tool("openssl")
def test_a_stolen_key(nfsverity: Any, alice: Any, bob: Any, signed: Path) -> None:
    report = nfsverity.json("revoke", *bob.options, "--revoke-key", alice.certificate, signed)
    (item,) = report["items"]
    assert item == {"what": "key", "hash": "sha256", "digest": spki_digest(alice.certificate), "new": True}
    assert (report["not_after"], report["verified"], len(report["invalid"])) == (None, True, FILES)
    refused = nfsverity("sign", *alice.options, signed, status=4)
    assert 'the key of "CN=alice-ed25519" is revoked for this tree: sign with another key' in refused.err
    refused = nfsverity("revoke", *alice.options, signed, status=4)
    assert "is revoked" in refused.err
    tree = nfsverity.json("sign", *bob.options, signed)["trees"][0]  # its head, and that is for all files
    assert (tree["signed"], int(tree["generation"]) > 0) == (FILES, True)  # what only the thief vouches for is hashed
    assert tree["generation"] == nfsverity("show", signed / "a.txt", "--json", status=None).json["generation"]
    again = nfsverity.json("revoke", *bob.options, "--days", "7", signed)
    assert [one["new"] for one in again["items"]] == [False]
    assert again["invalid"] == []
    assert 0 <= int(again["issued"]) + 7 * 86400 - int(again["not_after"]) <= 5  # they are two looks at the clock
    assert int(again["generation"]) > int(report["generation"])
    assert "this one has none" in nfsverity("revoke", *bob.options, signed).err
    assert nfsverity("revoke", *bob.options, signed).err == ""


def test_a_stolen_key_of_a_tree_with_a_record_for_each_file(
    nfsverity: Any, alice: Any, bob: Any, records: Path
) -> None:
    report = nfsverity.json("revoke", *bob.options, "--revoke-key", alice.certificate, records)
    assert len(report["invalid"]) == FILES
    assert nfsverity.json("sign", *bob.options, records)["trees"][0]["signed"] == FILES
    assert nfsverity.json("revoke", *bob.options, records)["invalid"] == []


def test_a_whole_volume(nfsverity: Any, alice: Any, signed: Path) -> None:
    report = nfsverity.json("revoke", *alice.options, "--revoke-version", signed, signed)
    assert (len(report["items"]), len(report["invalid"])) == (1, FILES)
    (error,) = nfsverity.json("verify", str(signed), status=1)["errors"]
    assert error["verdict"] == "revoked"
    nfsverity("sign", *alice.options, "--renew", signed)
    nfsverity("verify", signed)


@pytest.mark.tool("openssl")
def test_a_public_key_by_itself(nfsverity: Any, alice: Any, bob: Any, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "stolen.pem").write_bytes(spki(alice.certificate))
    report = nfsverity.json("revoke", *bob.options, "--revoke-key", tmp_path / "stolen.pem", signed)
    assert [item["digest"] for item in report["items"]] == [spki_digest(alice.certificate)]
    for wrong in (alice.key, signed / "a.txt"):
        nfsverity("revoke", *bob.options, "--revoke-key", wrong, signed, status=4)
    assert int(nfsverity.json("revoke", *bob.options, signed)["generation"]) > int(report["generation"])


def test_a_version_by_its_file_and_by_its_tag(nfsverity: Any, alice: Any, signed: Path) -> None:
    tag = nfsverity("show", "--trust", alice.certificate, "--json", signed / "a.txt").json["tag"]
    other = "ab" * 48
    words = ("--revoke-version", signed / "a.txt", "--revoke-version", tag, "--revoke-version", f"sha384:{other}")
    report = nfsverity.json("revoke", *alice.options, *words, signed)
    items = [(item["what"], item["hash"], item["digest"]) for item in report["items"]]
    assert items == [("version", "sha256", tag), ("version", "sha384", other)]
    assert report["invalid"] == [{"path": "a.txt"}]
    (signed / "new").write_bytes(b"no record")
    for wrong, status in ((signed / "new", 2), (f"sha384:{tag}", 2), ("nothing-there", 4), (signed.parent, 1)):
        nfsverity("revoke", *alice.options, "--revoke-version", wrong, signed, status=status)


@pytest.mark.parametrize("form", ["signed", "records"])
def test_signing_says_what_stays_revoked(nfsverity: Any, alice: Any, request: Any, form: str) -> None:
    tree: Path = request.getfixturevalue(form)
    for name in ("a.txt", "empty"):
        nfsverity("revoke", *alice.options, "--revoke-version", tree / name, tree)
    (report,) = nfsverity.json("sign", *alice.options, tree)["trees"]
    assert report["revoked"] == [{"path": "a.txt"}, {"path": "empty"}]
    (tree / "a.txt").write_bytes(b"mended")
    (tree / "empty").unlink()
    (report,) = nfsverity.json("sign", *alice.options, tree)["trees"]
    assert report["revoked"] == []
    nfsverity("revoke", *alice.options, "--revoke-version", tree / "a.txt", tree)
    said = nfsverity("sign", *alice.options, tree).text
    assert "1 file was taken back and is as before: readers refuse that" in said
    assert "            a.txt\n" in said


def test_a_listing_names_what_is_revoked(nfsverity: Any, alice: Any, signed: Path, serve: Any) -> None:
    url = serve(signed).url
    nfsverity("revoke", *alice.options, "--revoke-version", signed / "a.txt", signed)
    assert "a.txt  (revoked)" in nfsverity("ls", url).text.splitlines()
    listed = {entry["name"]: entry for entry in nfsverity.json("ls", "-R", url)["entries"]}
    assert [name for name, entry in listed.items() if entry["revoked"]] == ["a.txt"]
    assert (listed["a.txt"]["size"], listed["a.txt"]["signed"]) == (None, True)
    assert len(listed) > FILES
    assert nfsverity("cat", f"{url}/a.txt", status=1).out == b""


def test_everybody_can_list_it(nfsverity: Any, alice: Any, bob: Any, signed: Path, serve: Any) -> None:
    url = serve(signed).url + "/"
    for target in (str(signed), url):
        none = nfsverity("revoke", "--list", target, status=1)
        assert "unsigned" in none.err
    made = nfsverity.json("revoke", *bob.options, "--revoke-key", alice.certificate, signed)
    for target in (str(signed), url):
        shown = nfsverity.json("revoke", "--list", "--trust", str(bob.certificate), target)
        assert (shown["verified"], shown["error"]) == (True, None)
        assert [item["digest"] for item in shown["items"]] == [item["digest"] for item in made["items"]]
        assert (shown["generation"], shown["tag"]) == (made["generation"], made["tag"])
        stranger = nfsverity("revoke", "--list", target, status=1)
        assert "untrusted" in stranger.err
        assert made["items"][0]["digest"] in stranger.text
    path = signed / ".nfsverity" / "revocation"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for target in (str(signed), url):
        assert "bad-signature" in nfsverity("revoke", "--list", "--trust", bob.certificate, target, status=1).err


def test_the_report_for_people(nfsverity: Any, alice: Any, bob: Any, signed: Path) -> None:
    result = nfsverity("revoke", *bob.options, "--revoke-key", alice.certificate, "--days", "2", signed)
    made = nfsverity.json("revoke", "--list", "--trust", str(bob.certificate), str(signed))
    for text in (
        f'volume      {made["volume"]} "tree"',
        f"generation  {made['generation']}",
        f"key         {made['items'][0]['digest']} (sha256, new)",
        "publish a new one before that",
        'signer 1    "CN=bob-ed25519", scheme ed25519',
        "verified",
        "invalid     6 files do not verify any more",
    ):
        assert text in result.text
    (warning,) = result.err.splitlines()
    assert 'nothing here is signed by "CN=bob-ed25519"' in warning


def test_what_is_not_understood(nfsverity: Any, alice: Any, signed: Path, tmp_path: Path) -> None:
    for words in (
        (),
        ("--key", alice.key),
        ("--list", *alice.options),
        ("--list", "--days", "1"),
        ("--trust", alice.certificate, *alice.options),
        ("--days", "1", "--not-after", "2999-01-01", *alice.options),
        ("--not-after", "2001-01-01", *alice.options),
    ):
        nfsverity("revoke", *words, signed, status=2)
    nfsverity("revoke", *alice.options, signed / "sub", status=2)
    nfsverity("revoke", *alice.options, "nfsv://127.0.0.1:1/", status=2)
    (tmp_path / "plain").mkdir()
    nfsverity("revoke", *alice.options, tmp_path / "plain", status=1)
    assert list((tmp_path / "plain").iterdir()) == []
    assert not (signed / ".nfsverity" / "revocation").exists()
