# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.certificate import Certificate, parse_certificate
from nfsverity_proto.record import Fingerprint
from nfsverity_proto.trust import TrustEntry, expected_volumes
from nfsverity_proto.url import Url
from oracle import merkle, signers

DER = signers.signer().der
A, B = bytes([1]) * 16, bytes([2]) * 16
names = st.binary(min_size=1, max_size=6).filter(lambda name: not ({0, 47} & set(name)) and name not in (b".", b".."))
urls = st.lists(names, max_size=5).map(lambda parts: Url("host", 1, b"/".join(parts)))


@pytest.mark.spec("fim-trust-1")
@pytest.mark.parametrize(
    "parts",
    [
        {"ca": True},
        {"ca": True, "volumes": (A,)},
        {"ca": True, "subject": "CN=x"},
        {"ca": True, "subject": "", "volumes": (A,)},
        {"signers": 0},
        {"signers": -1},
        {"subject": "no attribute"},
        {"subject": "NOSUCHTYPE=x"},
    ],
)
def test_entries_that_are_none(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TrustEntry(DER, **parts)


@pytest.mark.spec("fim-trust-1")
@pytest.mark.parametrize("scope", [{"volumes": (A,)}, {"prefixes": ("nfsv://host:1/",)}])
def test_a_ca_has_a_subject_and_a_scope(scope: dict[str, Any]) -> None:
    assert TrustEntry(DER, ca=True, subject="CN=x", **scope).certificate.der == DER


@pytest.mark.spec("fim-rec-7", "fim-rec-8")
@pytest.mark.parametrize("number", list(merkle.HASHES))
def test_a_pin_is_of_the_certificate_that_has_the_whole_digest(number: int) -> None:
    digest = merkle.HASHES[number][1](DER)
    entry = TrustEntry(DER)
    assert entry.pins(Fingerprint(number, digest))
    for at in (0, len(digest) - 1):
        changed = bytearray(digest)
        changed[at] ^= 1
        assert not entry.pins(Fingerprint(number, bytes(changed)))
    assert not TrustEntry(DER, ca=True, subject="CN=x", volumes=(A,)).pins(Fingerprint(number, digest))


@pytest.mark.spec("fim-trust-3")
@pytest.mark.parametrize(
    ("prefix", "url", "covered"),
    [
        ("nfsv://host:1/", "nfsv://host:1/", True),
        ("nfsv://host:1/", "nfsv://host:1/a/b", True),
        ("nfsv://host:1", "nfsv://host:1/a", True),
        ("nfsv://host:1", "nfsv://host:11/a", False),
        ("nfsv://host:1/a", "nfsv://host:1/a", True),
        ("nfsv://host:1/a", "nfsv://host:1/a/b", True),
        ("nfsv://host:1/a/", "nfsv://host:1/a/b", True),
        ("nfsv://host:1/a", "nfsv://host:1/ab", False),
        ("nfsv://host:1/a", "nfsv://host:1/A", False),
        ("nfsv://host:1/a/b", "nfsv://host:1/a", False),
        ("nfsv://host:1/a", "nfsv://other:1/a", False),
    ],
)
def test_prefixes_are_compared_by_whole_segments(prefix: str, url: str, covered: bool) -> None:
    assert TrustEntry(DER, prefixes=(prefix,)).covers(A, url) is covered
    assert TrustEntry(DER, prefixes=("nfsv://elsewhere:1/", prefix)).covers(A, url) is covered


@pytest.mark.spec("fim-trust-3")
@given(urls, urls)
def test_a_url_is_covered_by_itself_and_by_what_is_above_it(url: Url, other: Url) -> None:
    names, others = [part.split(b"/") if part else [] for part in (url.path, other.path)]
    above = others[: len(names)] == names
    assert TrustEntry(DER, prefixes=(str(url),)).covers_url(str(other)) is above


@pytest.mark.spec("fim-trust-4")
def test_a_place_without_a_url_is_covered_by_no_prefix() -> None:
    assert TrustEntry(DER).covers(A, None)
    assert not TrustEntry(DER, prefixes=("nfsv://host:1/",)).covers(A, None)


def test_volumes_and_prefixes_are_both_asked_for() -> None:
    entry = TrustEntry(DER, volumes=(A,), prefixes=("nfsv://host:1/a",))
    assert entry.covers(A, "nfsv://host:1/a/x")
    assert not entry.covers(B, "nfsv://host:1/a/x")
    assert not entry.covers(A, "nfsv://host:1/b")
    assert not entry.covers(None, "nfsv://host:1/a")


def certificate_of(*attributes: tuple[x509.ObjectIdentifier, str]) -> Certificate:
    key = signers.key(signers.ED25519, "leaf")
    return parse_certificate(signers.certificate(key.public_key(), signers.name_of(*attributes), key, signs=True))


@pytest.mark.spec("fim-trust-6")
@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        (None, True),
        ("CN=Alice", True),
        ("O=Example", True),
        ("CN=Alice,O=Example", True),
        ("O=Example,CN=Alice", True),
        ("CN=alice", False),
        ("CN=Alice,O=Other", False),
        ("CN=Alice,O=Example,C=DE", False),
        ("OU=Alice", False),
        ("CN=Example", False),
        ("CN=Ali", False),
    ],
)
def test_a_subject_fits_if_each_attribute_is_there(subject: str | None, fits: bool) -> None:
    certificate = certificate_of((x509.NameOID.ORGANIZATION_NAME, "Example"), (x509.NameOID.COMMON_NAME, "Alice"))
    assert TrustEntry(DER, subject=subject).subject_fits(certificate) is fits


@given(st.text(max_size=12) | st.text("CNOU=, +#\\0123aé", max_size=12) | st.text(max_size=9).map("C={}".format))
def test_any_text_is_a_subject_or_raises_the_one_error(subject: str) -> None:
    try:
        entry = TrustEntry(DER, subject=subject)
    except ValueError:
        return
    assert entry.subject_fits(parse_certificate(DER)) in (True, False)


@pytest.mark.parametrize(
    ("entries", "url", "expected"),
    [
        ([], "nfsv://host:1/", None),
        ([TrustEntry(DER)], "nfsv://host:1/", None),
        ([TrustEntry(DER, volumes=(A,))], "nfsv://host:1/", {A}),
        ([TrustEntry(DER, volumes=(A,))], None, {A}),
        ([TrustEntry(DER, volumes=(A,)), TrustEntry(DER, volumes=(A, B))], "nfsv://host:1/", {A, B}),
        ([TrustEntry(DER, volumes=(A,)), TrustEntry(DER)], "nfsv://host:1/", None),
        ([TrustEntry(DER, volumes=(A,)), TrustEntry(DER, prefixes=("nfsv://other:1/",))], "nfsv://host:1/", {A}),
        ([TrustEntry(DER, volumes=(A,), prefixes=("nfsv://other:1/",))], "nfsv://host:1/", None),
    ],
)
def test_the_volumes_that_the_entries_for_a_place_leave(
    entries: list[TrustEntry], url: str | None, expected: set[bytes] | None
) -> None:
    assert expected_volumes(entries, url) == expected
