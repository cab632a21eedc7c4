# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity trust`, and what comes of it when files are verified on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

VOLUME, OTHER = "00112233445566778899aabbccddeeff", "ff" * 16


def verdict(nfsverity: Any, path: Path, *options: str | Path, status: int = 1) -> str | None:
    """Of one file on this machine."""
    (file,) = nfsverity.json("verify", *options, str(path), status=status)["files"]
    return str(file["verdict"])


@pytest.fixture
def file(nfsverity: Any, alice: Any, tree: Path) -> Path:
    """A signed file of a known volume, whose signer nobody believes yet."""
    nfsverity("sign", *alice.options, "--volume-id", VOLUME, tree / "a.txt")
    return tree / "a.txt"


def test_nothing_is_believed_at_first(nfsverity: Any, alice: Any, file: Path) -> None:
    result = nfsverity("verify", file, status=1)
    assert "untrusted" in result.err
    assert alice.fingerprint in result.err
    assert "nfsverity trust add CERT" in result.err
    listed = nfsverity.json("trust", "list")
    assert (listed["entries"], listed["bindings"]) == ([], [])


def test_an_entry_is_added_listed_and_removed(nfsverity: Any, alice: Any, file: Path) -> None:
    added = nfsverity.json("trust", "add", str(alice.certificate))
    assert added["fingerprint"] == alice.fingerprint
    assert nfsverity.json("trust", "list")["entries"][0]["id"] == added["id"]
    for text in (added["id"], alice.fingerprint, "CN=alice-ed25519", "for volumes  any"):
        assert text in nfsverity("trust", "list").text
    assert verdict(nfsverity, file, status=0) == "verified"
    assert nfsverity.json("trust", "remove", added["id"])["entries"][0]["id"] == added["id"]
    assert verdict(nfsverity, file) == "untrusted"


def test_an_entry_goes_by_its_fingerprint_too(nfsverity: Any, alice: Any, bob: Any) -> None:
    nfsverity("trust", "add", alice.certificate)
    nfsverity("trust", "add", bob.certificate)
    assert "removed entry" in nfsverity("trust", "remove", alice.fingerprint[:12]).text
    left = nfsverity.json("trust", "list")["entries"]
    assert [entry["fingerprint"] for entry in left] == [bob.fingerprint]


def test_a_volume_narrows(nfsverity: Any, alice: Any, file: Path) -> None:
    nfsverity("trust", "add", alice.certificate, "--volume", OTHER)
    assert verdict(nfsverity, file) == "wrong-volume"
    nfsverity("trust", "add", alice.certificate, "--volume", VOLUME)
    assert verdict(nfsverity, file, status=0) == "verified"


def test_a_prefix_narrows(nfsverity: Any, alice: Any, file: Path) -> None:
    nfsverity("trust", "add", alice.certificate, "--prefix", "nfsv://host:1/")
    assert verdict(nfsverity, file) == "out-of-scope"
    nfsverity("trust", "add", alice.certificate, "--prefix", file.parent.as_uri())
    assert verdict(nfsverity, file, status=0) == "verified"


def test_a_scheme_narrows(nfsverity: Any, alice: Any, file: Path) -> None:
    nfsverity("trust", "add", alice.certificate, "--scheme", "ml-dsa-65", "--scheme", "ecdsa-p256")
    assert verdict(nfsverity, file) == "out-of-scope"
    nfsverity("trust", "add", alice.certificate, "--scheme", "ed25519")
    assert verdict(nfsverity, file, status=0) == "verified"


def test_a_number_of_signers_is_asked_for(nfsverity: Any, alice: Any, bob: Any, file: Path) -> None:
    nfsverity("trust", "add", alice.certificate, "--signers", "2")
    nfsverity("trust", "add", bob.certificate)
    assert verdict(nfsverity, file) == "too-few-signers"
    nfsverity("sign", *alice.options, *bob.options, "--rehash", file.parent)
    assert verdict(nfsverity, file, status=0) == "verified"


@pytest.mark.tool("openssl")
def test_a_ca_vouches_for_signers_of_a_subject(nfsverity: Any, tmp_path: Path, tree: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]
    authority = ["-subj", "/O=Example/CN=CA", "-days", "9", "-addext", "keyUsage = critical, keyCertSign"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", *authority)
    (tmp_path / "leaf.cnf").write_text(
        "keyUsage = critical, digitalSignature\nextendedKeyUsage = 1.3.6.1.5.5.7.3.36\n"
        "basicConstraints = critical, CA:FALSE\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"
    )
    openssl("req", *curve, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/O=Example/CN=release")
    issue = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "5"]
    openssl(*issue, "-extfile", "leaf.cnf", "-out", "leaf.crt")
    nfsverity("sign", "--key", tmp_path / "leaf.key", "--cert", tmp_path / "leaf.crt", tree / "a.txt")
    file, prefix = tree / "a.txt", tree.as_uri()
    nfsverity("trust", "add", tmp_path / "ca.crt", "--ca", "--subject", "O=Other", "--prefix", prefix)
    assert verdict(nfsverity, file) == "out-of-scope"
    ca = nfsverity.json(
        "trust", "add", str(tmp_path / "ca.crt"), "--ca", "--subject", "O=Example,CN=release", "--prefix", prefix
    )
    assert (ca["ca"], ca["required_subject"]) == (True, "O=Example,CN=release")
    assert verdict(nfsverity, file, status=0) == "verified"


@pytest.mark.spec("fim-trust-9")
@pytest.mark.parametrize(
    "options",
    [
        ["--ca"],
        ["--ca", "--subject", "O=Example"],
        ["--ca", "--volume", VOLUME],
        ["--subject", "not a name"],
        ["--volume", "12"],
        ["--prefix", "http://host/"],
        ["--prefix", "nfsv://me@host:1/"],
        ["--prefix", "nfsv://host:1/a/../b"],
        ["--prefix", "nfsv://host:1/a//b"],
        ["--prefix", "nfsv://host:1/a?b"],
        ["--signers", "0"],
        ["--scheme", "md5"],
    ],
)
def test_what_is_a_mistake_of_usage(nfsverity: Any, alice: Any, options: list[str]) -> None:
    assert "Usage:" in nfsverity("trust", "add", alice.certificate, *options, status=2).err
    assert nfsverity.json("trust", "list")["entries"] == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_that_is_no_certificate_is_named(nfsverity: Any, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.crt"
    if content is not None:
        path.write_bytes(content)
    assert str(path) in nfsverity("trust", "add", path, status=4).err
    assert str(path) in nfsverity("verify", "--trust", path, tmp_path, status=4).err


def test_what_is_not_there_cannot_be_removed(nfsverity: Any) -> None:
    for name in ("abcdef012345", "nfsv://host:1/", "file:///srv", "/srv/none"):
        assert "has no" in nfsverity("trust", "remove", name, status=4).err
    nfsverity("trust", "remove", "nfsv://host/", status=2)
    nfsverity("trust", "remove", status=2)


def test_the_volume_is_bound_at_first_use_and_expected_then(
    nfsverity: Any, alice: Any, file: Path, tmp_path: Path
) -> None:
    nfsverity("trust", "add", alice.certificate)
    first = nfsverity("verify", file)
    assert f"used for the first time: from now on volume {VOLUME} is expected" in first.err
    assert nfsverity("verify", file).err == ""
    server = file.parent.as_uri()
    assert nfsverity.json("trust", "list")["bindings"] == [{"server": server, "volume": VOLUME}]
    assert f"{server}  volume {VOLUME}" in nfsverity("trust", "list").text
    nfsverity("sign", *alice.options, "--volume-id", OTHER, file.parent)
    result = nfsverity("verify", file, status=1)
    assert "wrong-volume" in result.err
    assert VOLUME in result.err
    assert OTHER in result.err
    assert "trust remove" in result.err
    assert nfsverity.json("trust", "remove", str(file.parent))["bindings"] == [{"server": server, "volume": VOLUME}]
    assert OTHER in nfsverity("verify", file).err


def test_a_volume_that_is_named_is_not_bound(nfsverity: Any, alice: Any, file: Path) -> None:
    nfsverity("verify", "--trust", alice.certificate, "--volume", VOLUME, file)
    assert verdict(nfsverity, file, "--trust", alice.certificate, "--volume", OTHER) == "wrong-volume"
    assert nfsverity.json("trust", "list")["bindings"] == []


def test_no_binding_is_made_for_what_does_not_verify(nfsverity: Any, file: Path) -> None:
    nfsverity("verify", file, status=1)
    assert nfsverity.json("trust", "list")["bindings"] == []


@pytest.mark.parametrize("name", ["config/trust.json", "state/bindings.json"])
def test_a_damaged_store_is_an_error_and_nothing_is_believed(nfsverity: Any, alice: Any, file: Path, name: str) -> None:
    nfsverity("trust", "add", alice.certificate)
    nfsverity("verify", file)
    path = nfsverity.home / name
    path.write_bytes(path.read_bytes()[:-10])
    for arguments in (["verify", file], ["trust", "list"], ["verify", "--trust", alice.certificate, file]):
        result = nfsverity(*arguments, status=4)
        assert f"{path} is damaged" in result.err
