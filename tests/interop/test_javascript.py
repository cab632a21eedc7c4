# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A verifier in JavaScript, written from the text of File Integrity Metadata alone, comes to the same verdicts as ours.

It knows pins only, and of the algorithms those that node has: no ML-DSA and no BLAKE3.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nfsverity_proto import tree
from nfsverity_proto.errors import VerificationError
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import verify_record
from nfsverity_proto.verifier import Expected, Verifier
from nfsverity_store.layout import read_head
from nfsverity_store.published import open_published

HERE = Path(__file__).parent / "javascript"
VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
COMMAND = Path(sys.executable).with_name("nfsverity")
UNIT = 4096
PATH = "d/caf\N{LATIN SMALL LETTER E WITH ACUTE}"
CONTENT = bytes(range(256)) * 80 + b"the last unit is short"
pytestmark = pytest.mark.tool("node")


def test_it_runs_the_vectors() -> None:
    command = ["node", HERE / "vectors.mjs", VECTORS]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    counts = {subject: int(count) for subject, count in (line.split() for line in result.stdout.splitlines())}
    assert counts.keys() == {"tree", "proof", "statement", "record", "signature", "verification", "range", "member"}
    assert min(counts.values()) > 40
    assert sum(counts.values()) > 3000


@dataclass(frozen=True)
class Case:
    """A published file, and what a verifier brings."""

    folder: Path
    record: bytes
    certificate: Path
    volume: bytes
    now: int
    path: str = PATH
    content: bytes = CONTENT

    def by_javascript(self, *more: str | Path) -> str:
        """The verdict that the command prints."""
        record, data = self.folder / "record", self.folder / "data"
        record.write_bytes(self.record)
        data.write_bytes(self.content)
        given = {"record": record, "data": data, "cert": self.certificate, "path": self.path, "now": self.now}
        options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        command = ["node", str(HERE / "verify.mjs"), *options, "--volume", self.volume.hex(), *map(str, more)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        verdict = result.stdout.splitlines()[0].partition(":")[0] if result.stdout else result.stderr
        assert result.returncode == (0 if verdict == "verified" else 1), verdict
        return verdict

    def by_proto(self) -> str:
        trust = [TrustEntry(der_of(self.certificate))]
        expected = Expected(os.fsencode(self.path), frozenset({self.volume}), None)
        try:
            verified = verify_record(self.record, expected, Verifier(trust, {}, self.now))
        except VerificationError as error:
            return error.verdict
        hash, shape = hash_by_number(verified.statement.hash), verified.content.tree.shape
        leaves = [
            hash.leaf(self.content[at : at + shape.unit_size]) for at in range(0, len(self.content), shape.unit_size)
        ]
        good = len(self.content) == shape.size and tree.root(hash, leaves) == verified.content.tree.root
        return "verified" if good else "mismatch"


def der_of(pem: Path) -> bytes:
    command = ["openssl", "x509", "-in", pem, "-outform", "DER"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def published(folder: Path, algorithm: str, *options: str) -> Case:
    """A file, signed by the command."""
    environment = os.environ | {"NFSVERITY_CONFIG_DIR": str(folder), "NFSVERITY_STATE_DIR": str(folder)}
    root = folder / "tree"
    (root / "d").mkdir(parents=True)
    (root / PATH).write_bytes(CONTENT)
    for arguments in (
        ["keygen", "--algorithm", algorithm, "me"],
        ["sign", "--per-file", "--unit-size", "4096", *options, "--key", "me.key", "--cert", "me.crt", "tree"],
    ):
        subprocess.run([COMMAND, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
    _, index = open_published(root)
    record = next(entry.record for path, entry in index.files() if path == os.fsencode(PATH))
    index.close()
    assert record is not None
    now = int((root / "d").stat().st_mtime) + 60
    return Case(folder, record, folder / "me.crt", read_head(root).volume, now)


@pytest.mark.tool("node", "openssl")
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("ed25519", ()),
        ("ecdsa-p256", ("--hash", "sha384")),
        ("ecdsa-p384", ("--hash", "sha512")),
        ("rsa-pss", ("--hash", "sha3-256")),
    ],
)
def test_a_published_file_gets_the_same_verdicts(algorithm: str, options: tuple[str, ...], tmp_path: Path) -> None:
    case = published(tmp_path, algorithm, *options)
    other = published(tmp_path / "other", "ed25519")
    year = 366 * 86400
    expected = {
        case: "verified",
        replace(case, content=CONTENT[:-1] + b"!"): "mismatch",
        replace(case, content=CONTENT[:-1]): "mismatch",
        replace(case, content=CONTENT + b"\0"): "mismatch",
        replace(case, path="d/cafe"): "wrong-path",
        replace(case, volume=bytes(16)): "wrong-volume",
        replace(case, certificate=other.certificate): "untrusted",
        replace(case, now=case.now - year): "not-yet-valid",
        replace(case, now=case.now + 40 * year): "expired",
        replace(case, record=case.record + bytes(4)): "malformed",
        replace(case, record=case.record[:-1] + bytes([case.record[-1] ^ 1])): None,
    }
    step = len(case.record) // 24
    for at in range(7, len(case.record), step):
        changed = bytearray(case.record)
        changed[at] ^= 1 << at % 8
        expected[replace(case, record=bytes(changed))] = None
    for changed_case, verdict in expected.items():
        found = changed_case.by_javascript()
        assert found == changed_case.by_proto()
        assert verdict in (None, found)
        assert found != "verified" or changed_case is case


@pytest.mark.tool("node", "openssl")
def test_units_with_a_proof(tmp_path: Path) -> None:
    case, proof = published(tmp_path, "ed25519"), tmp_path / "proof"
    assert case.by_javascript("--units", "2:4", "--prove", proof) == "verified"
    units = replace(case, content=CONTENT[2 * UNIT : 4 * UNIT])
    assert units.by_javascript("--units", "2:4", "--proof", proof) == "verified"
    changed = replace(units, content=units.content[:-1] + b"!")
    assert changed.by_javascript("--units", "2:4", "--proof", proof) == "mismatch"
