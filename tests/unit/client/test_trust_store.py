# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The trust store: what is kept is what comes back, durably, or an error that names the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nfsverity_client import trust_store
from nfsverity_client.trust_store import Bindings, TrustStore, TrustStoreError, certificate_file
from nfsverity_proto.errors import BadCertificate
from nfsverity_proto.signature import ED25519, ML_DSA_65
from nfsverity_proto.trust import TrustEntry
from nfsverity_publisher.new_key import make_key

VOLUME, OTHER = bytes(range(16)), bytes(range(16, 32))


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


ALICE_PEM = make_key("alice", "ed25519", 30)[1]
ALICE, BOB = der_of(ALICE_PEM), der_of(make_key("bob", "ecdsa-p256", 30)[1])


def test_nothing_is_believed_where_there_is_no_file(tmp_path: Path) -> None:
    store = TrustStore(tmp_path / "none")
    assert store.entries() == []
    assert Bindings(tmp_path / "none").get("nfsv://h:1") is None
    assert not (tmp_path / "none").exists()


def test_every_field_of_an_entry_is_kept(tmp_path: Path) -> None:
    entry = TrustEntry(
        ALICE,
        ca=True,
        subject="CN=release,O=Example",
        volumes=(VOLUME, OTHER),
        prefixes=("nfsv://h:1/a", "nfsv://h:1/b"),
        schemes=(ED25519, ML_DSA_65),
        signers=2,
    )
    TrustStore(tmp_path).add(entry)
    TrustStore(tmp_path).add(TrustEntry(BOB))
    assert TrustStore(tmp_path).entries() == [entry, TrustEntry(BOB)]


def test_the_same_entry_is_kept_once(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    first = store.add(TrustEntry(ALICE))
    assert store.add(TrustEntry(ALICE)) == first
    assert store.add(TrustEntry(ALICE, volumes=(VOLUME,))) != first
    assert len(store.entries()) == 2


def test_what_is_no_certificate_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(BadCertificate):
        TrustStore(tmp_path).add(TrustEntry(b"no certificate"))
    assert not (tmp_path / "trust.json").exists()


def test_an_entry_goes_by_its_id(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    wide, narrow = store.add(TrustEntry(ALICE)), store.add(TrustEntry(ALICE, volumes=(VOLUME,)))
    assert [gone.id for gone in store.remove(wide)] == [wide]
    assert [stored.id for stored in store.stored()] == [narrow]


def test_all_entries_of_a_signer_go_by_its_fingerprint(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.add(TrustEntry(ALICE))
    store.add(TrustEntry(ALICE, volumes=(VOLUME,)))
    store.add(TrustEntry(BOB))
    fingerprint = TrustEntry(ALICE).certificate.fingerprint.digest.hex()
    written = ":".join(fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    assert len(store.remove(written)) == 2
    assert store.entries() == [TrustEntry(BOB)]


@pytest.mark.parametrize("name", ["", "ab", "ffffffffffff", "nfsv://h:1/"])
def test_a_name_that_fits_nothing_removes_nothing(tmp_path: Path, name: str) -> None:
    store = TrustStore(tmp_path)
    store.add(TrustEntry(ALICE))
    with pytest.raises(TrustStoreError, match=r"trust\.json has no entry"):
        store.remove(name)
    assert len(store.entries()) == 1


def test_a_prefix_of_two_signers_removes_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrustStore(tmp_path)
    store.add(TrustEntry(ALICE))
    store.add(TrustEntry(BOB))
    monkeypatch.setattr(trust_store, "PREFIX_MIN", 0)
    with pytest.raises(TrustStoreError, match="fits several signers"):
        store.remove("")
    assert len(store.entries()) == 2


def changed(path: Path, change: str) -> None:
    """One fault in a good file."""
    value = json.loads(path.read_bytes())
    item = value.get("entries", value.get("bindings"))[0]
    match change:
        case "empty":
            path.write_bytes(b"")
            return
        case "cut":
            path.write_bytes(path.read_bytes()[:-20])
            return
        case "deep":
            path.write_bytes(b"[" * 100_000)
            return
        case "no format":
            del value["format"]
        case "no list":
            del value["entries" if "entries" in value else "bindings"]
        case "a list":
            value = [value]
        case "one more key":
            value["policy"] = "strict"
        case "one more limit":
            item["not_after"] = "2027-01-01"
        case "one limit fewer":
            del item["volumes" if "volumes" in item else "volume"]
        case "a short volume":
            item["volumes" if "volumes" in item else "volume"] = ["00"] if "volumes" in item else "00"
        case "no object":
            (value.get("entries") or value.get("bindings"))[0] = "text"
        case "another certificate":
            item["certificate"] = TrustEntry(BOB).certificate.der.hex()
        case "another fingerprint":
            item["fingerprint"] = "00" * 32
        case "unknown scheme":
            item["schemes"] = ["md5"]
        case "signers as text":
            item["signers"] = "1"
        case "no signers":
            item["signers"] = 0
        case "ca without scope":
            item["ca"] = True
        case "names as text":
            item["prefixes"] = "nfsv://h:1/"
        case "twice":
            value["bindings"].append(item)
    path.write_text(json.dumps(value))


WHOLE = ["empty", "cut", "deep", "no format", "no list", "a list", "one more key", "no object"]


@pytest.mark.parametrize(
    "change",
    [
        *WHOLE, "one more limit", "one limit fewer", "a short volume", "another certificate", "another fingerprint",
        "unknown scheme", "signers as text", "no signers", "ca without scope", "names as text",
    ],
)  # fmt: skip
def test_a_damaged_trust_file_is_an_error_that_names_it(tmp_path: Path, change: str) -> None:
    store = TrustStore(tmp_path)
    store.add(TrustEntry(ALICE))
    changed(store.path, change)
    damaged = store.path.read_bytes()
    for use in (store.entries, lambda: store.add(TrustEntry(BOB)), lambda: store.remove("abcdef")):
        with pytest.raises(TrustStoreError, match=r"trust\.json is damaged"):
            use()
    assert store.path.read_bytes() == damaged


@pytest.mark.parametrize("change", [*WHOLE, "one more limit", "one limit fewer", "a short volume", "twice"])
def test_a_damaged_file_of_bindings_is_an_error_that_names_it(tmp_path: Path, change: str) -> None:
    bindings = Bindings(tmp_path)
    bindings.bind("nfsv://h:1", VOLUME)
    changed(bindings.path, change)
    damaged = bindings.path.read_bytes()
    for use in (
        lambda: bindings.get("nfsv://h:1"),
        lambda: bindings.bind("nfsv://h:2", VOLUME),
        lambda: bindings.remove("nfsv://h:1"),
    ):
        with pytest.raises(TrustStoreError, match=r"bindings\.json is damaged"):
            use()
    assert bindings.path.read_bytes() == damaged


def test_another_format_is_not_guessed_at(tmp_path: Path) -> None:
    store = TrustStore(tmp_path)
    store.path.write_text('{"format": 2, "entries": []}')
    with pytest.raises(TrustStoreError, match="is of format 2; this program knows 1"):
        store.entries()


def test_a_file_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrustStore(tmp_path)
    monkeypatch.setattr(trust_store, "FILE_MAX", 100)
    store.path.write_text('{"format": 1, "entries": []}' + " " * 100)
    with pytest.raises(TrustStoreError, match="longer than 100 bytes"):
        store.entries()


def test_files_are_for_this_user_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "config"
    TrustStore(directory).add(TrustEntry(ALICE))
    Bindings(directory).bind("nfsv://h:1", VOLUME)
    assert directory.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in directory.iterdir()}
    assert names == {"trust.json", "trust.json.lock", "bindings.json", "bindings.json.lock"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.iterdir())


def test_a_change_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrustStore(tmp_path)
    store.add(TrustEntry(ALICE))
    before = store.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trust_store.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.add(TrustEntry(BOB))
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.new")] == []


def test_a_binding_is_made_once(tmp_path: Path) -> None:
    bindings = Bindings(tmp_path)
    assert bindings.bind("nfsv://h:1", VOLUME) == VOLUME
    assert bindings.bind("nfsv://h:1/", OTHER) == VOLUME
    assert bindings.get("nfsv://h:1/") == VOLUME
    assert Bindings(tmp_path).all() == {"nfsv://h:1": VOLUME}


def test_a_binding_goes_by_the_url_of_the_server(tmp_path: Path) -> None:
    bindings = Bindings(tmp_path)
    bindings.bind("nfsv://h:1", VOLUME)
    bindings.bind("file:///", OTHER)
    assert bindings.remove("nfsv://h:1/") == VOLUME
    assert bindings.remove("file:///") == OTHER
    with pytest.raises(TrustStoreError, match="has no binding of nfsv://h:1"):
        bindings.remove("nfsv://h:1")


def test_a_volume_id_has_16_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Bindings(tmp_path).bind("nfsv://h:1", b"short")
    with pytest.raises(ValueError, match="16 bytes"):
        TrustStore(tmp_path).add(TrustEntry(ALICE, volumes=(b"short",)))


BIND = """
import sys
from pathlib import Path
from nfsverity_client.trust_store import Bindings
sys.stdin.readline()
for port in range(20):
    print(Bindings(Path(sys.argv[1])).bind(f"nfsv://h:{port}", bytes([int(sys.argv[2])]) * 16).hex())
"""


def test_processes_that_bind_at_the_same_time_agree(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BIND, str(tmp_path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in processes]
    assert all(len(answer) == 20 for answer in answers)
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert list(Bindings(tmp_path).all().values()) == [bytes.fromhex(text) for text in answers[0]]


def test_the_directories_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NFSVERITY_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NFSVERITY_STATE_DIR", str(tmp_path / "state"))
    assert TrustStore().path == tmp_path / "config" / "trust.json"
    assert Bindings().path == tmp_path / "state" / "bindings.json"


@pytest.mark.skipif(sys.platform == "darwin", reason="has its own places")
def test_the_directories_are_those_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NFSVERITY_CONFIG_DIR", "NFSVERITY_STATE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    assert TrustStore().path == tmp_path / "c" / "nfsverity" / "trust.json"
    assert Bindings().path == tmp_path / "s" / "nfsverity" / "bindings.json"


def test_a_certificate_file_is_pem_or_der(tmp_path: Path) -> None:
    (tmp_path / "a.crt").write_bytes(ALICE_PEM)
    (tmp_path / "a.der").write_bytes(ALICE)
    assert certificate_file(tmp_path / "a.crt") == certificate_file(tmp_path / "a.der") == ALICE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n", "holds no certificate"),
        (ALICE_PEM * 2, "holds 2 certificates"),
    ],
)
def test_a_certificate_file_holds_one_certificate(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.crt"
    path.write_bytes(content)
    with pytest.raises(TrustStoreError, match=says):
        certificate_file(path)
