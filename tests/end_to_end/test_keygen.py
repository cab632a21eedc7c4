# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity keygen`, its files judged by the library and by OpenSSL."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

ALGORITHMS = ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-pss", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_of_each_algorithm_signs_and_verifies(nfsverity: Any, tmp_path: Path, tree: Path, algorithm: str) -> None:
    name = tmp_path / "me"
    report = nfsverity.json("keygen", "--algorithm", algorithm, str(name))
    assert report["algorithm"] == algorithm
    nfsverity("sign", "--key", f"{name}.key", "--cert", f"{name}.crt", tree / "a.txt")
    shown = nfsverity.json("show", "--trust", f"{name}.crt", str(tree / "a.txt"))
    assert [attestation["scheme"] for attestation in shown["attestations"]] == [algorithm]
    assert shown["attestations"][0]["fingerprint"] == report["fingerprint"]
    assert shown["verified"]


def test_the_key_is_for_its_owner_only_and_the_certificate_names_it(nfsverity: Any, tmp_path: Path) -> None:
    result = nfsverity("keygen", "--days", "10", "me", cwd=tmp_path)
    assert stat.S_IMODE((tmp_path / "me.key").stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate((tmp_path / "me.crt").read_bytes())
    key: Any = load_pem_private_key((tmp_path / "me.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    assert certificate.subject.rfc4514_string() == "CN=me"
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=9) < left < timedelta(days=11)
    fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert fingerprint in result.text
    assert "nfsverity trust add me.crt" in result.text
    assert "nfsverity sign --key me.key --cert me.crt" in result.text


@pytest.mark.tool("openssl")
@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-pss"])
def test_openssl_reads_what_is_made(nfsverity: Any, tmp_path: Path, algorithm: str) -> None:
    nfsverity("keygen", "--algorithm", algorithm, "me", cwd=tmp_path)
    verify = ["openssl", "verify", "-check_ss_sig", "-CAfile", "me.crt", "me.crt"]
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True).stdout == b"me.crt: OK\n"
    public = ["openssl", "pkey", "-in", "me.key", "-pubout"]
    named = ["openssl", "x509", "-in", "me.crt", "-pubkey", "-noout"]
    outputs = [subprocess.run(line, cwd=tmp_path, capture_output=True, check=True).stdout for line in (public, named)]
    assert outputs[0] == outputs[1] != b""


@pytest.mark.parametrize("present", ["me.key", "me.crt"])
def test_nothing_is_overwritten(nfsverity: Any, tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_bytes(b"mine")
    result = nfsverity("keygen", "me", cwd=tmp_path, status=4)
    assert present in result.err
    assert "not overwritten" in result.err
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_bytes() == b"mine"


def test_a_dangling_link_is_not_followed(nfsverity: Any, tmp_path: Path) -> None:
    (tmp_path / "me.crt").symlink_to(tmp_path / "elsewhere")
    nfsverity("keygen", "me", cwd=tmp_path, status=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.crt"]


def test_a_folder_that_is_not_there_is_named(nfsverity: Any, tmp_path: Path) -> None:
    error = nfsverity.json("keygen", str(tmp_path / "none" / "me"), status=4)["error"]
    assert error["file"] == str(tmp_path / "none" / "me.key")


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", ""])
def test_a_name_has_to_fit_a_certificate(nfsverity: Any, tmp_path: Path, name: str) -> None:
    nfsverity("keygen", name, cwd=tmp_path, status=2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("options", [["--days", "0"], ["--days", "x"], ["--algorithm", "md5"], ["--size", "1"], []])
def test_what_is_a_mistake_of_usage(nfsverity: Any, tmp_path: Path, options: list[str]) -> None:
    names = ["me"] if options else []
    assert "Usage:" in nfsverity("keygen", *options, *names, cwd=tmp_path, status=2).err
