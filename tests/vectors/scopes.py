# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trust entries alone: which may be made, and what they cover (fim-trust-1, -3, -4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import sample
from .case import entry
from .certificates import COMMON_NAME, authority, example
from .form import Vector

HOST = "nfsv://host.example:7447"
SUBJECT = [{"type": COMMON_NAME, "value": "example"}]


def build() -> Iterator[Vector]:
    ca = authority("ca").name
    rule = ("fim-trust-1",)
    limits: dict[str, dict[str, Any]] = {
        "volume": {"volumes": [sample.VOLUME]},
        "prefix": {"prefixes": [f"{HOST}/"]},
        "both": {"volumes": [sample.VOLUME], "prefixes": [f"{HOST}/"]},
    }
    for slug, limit in limits.items():
        yield Vector(
            f"entry-ca-{slug}",
            f"a CA with a subject, and limited by {slug}",
            rule,
            {"of": "entry", "entry": entry(ca, ca=True, subject=SUBJECT, **limit)},
        )
    base = Vector(
        "entry-ca",
        "a CA with a subject, a volume and a scheme",
        rule,
        {"of": "entry", "entry": entry(ca, ca=True, subject=SUBJECT, schemes=[0x0807], **limits["volume"])},
    )
    yield base
    for slug, about, changed in (
        ("no-subject", "no subject", {"subject": None}),
        ("no-volume", "neither volume nor prefix", {"volumes": []}),
        ("nothing", "neither subject nor volume nor prefix", {"subject": None, "volumes": []}),
        ("no-signers", "no signers asked for", {"signers": 0}),
    ):
        yield base.fault(
            slug,
            f"a CA with {about}",
            "refused",
            ("fim-trust-1",) if slug != "no-signers" else ("fim-trust-7",),
            entry=base.input["entry"] | changed,
        )
    for slug, more in (("plain", {}), ("subject", {"subject": SUBJECT}), ("signers", {"signers": 2**32 - 1})):
        yield Vector(
            f"entry-pin-{slug}", f"a pin: {slug}", rule, {"of": "entry", "entry": entry(example().name, **more)}
        )

    def covers(
        slug: str, about: str, limit: dict[str, Any], url: str | None, *clauses: str, volume: bytes = sample.VOLUME
    ) -> Vector:
        given = {"of": "covers", "entry": entry(example().name, **limit), "volume": volume, "url": url}
        return Vector(f"covers-{slug}", about, clauses, given, "covered")

    below = covers(
        "directory", "a place below a prefix", {"prefixes": [f"{HOST}/d"]}, f"{HOST}/d/f", "fim-trust-3", "fim-trust-9"
    )
    yield below
    for slug, prefix, url in (
        ("itself", f"{HOST}/d", f"{HOST}/d"),
        ("slash", f"{HOST}/d/", f"{HOST}/d/f"),
        ("host", f"{HOST}/", f"{HOST}/d/f"),
        ("host-root", f"{HOST}/", f"{HOST}/"),
        ("deep", f"{HOST}/d", f"{HOST}/d/e/f/g"),
        ("encoded", f"{HOST}/d%20e", f"{HOST}/d%20e/f"),
        ("no-slash", HOST, f"{HOST}/d"),
    ):
        yield covers(slug, f"{url} at or below {prefix}", {"prefixes": [prefix]}, url, "fim-trust-3")
    for slug, url in (
        ("sibling", f"{HOST}/dd/f"),
        ("sibling-dot", f"{HOST}/d.old"),
        ("above", f"{HOST}/"),
        ("host", "nfsv://host.example.org:7447/d/f"),
        ("port", "nfsv://host.example:74470/d/f"),
        ("scheme", "nfs://host.example:7447/d/f"),
        ("case", f"{HOST}/D/f"),
        ("encoded-slash", f"{HOST}/d%2Ff"),
    ):
        yield below.fault(slug, f"{url} is not below it", "not-covered", ("fim-trust-3",), url=url)
    yield covers("any", "no limits, and no URL", {}, None, "fim-trust-4")
    yield covers("volume", "a volume, and no URL", {"volumes": [sample.VOLUME]}, None, "fim-trust-4")
    yield below.fault("no-url", "no URL, where there is a prefix", "not-covered", ("fim-trust-4",), url=None)
    no_form = ("fim-trust-9",)
    for slug, about, url in (
        ("dot-dot", "two dots", f"{HOST}/d/../f"),
        ("dot", "a dot segment", f"{HOST}/d/./f"),
        ("slashes", "an empty segment", f"{HOST}/d//f"),
        ("query", "a query", f"{HOST}/d/f?x"),
        ("fragment", "a fragment", f"{HOST}/d/f#x"),
        ("percent", "a percent sign alone", f"{HOST}/d/%f"),
    ):
        yield below.fault(
            f"no-form-{slug}", f"a place that has {about}, and so no form", "not-covered", no_form, url=url
        )
    for slug, prefix in (
        ("dot-dot", f"{HOST}/d/.."),
        ("query", f"{HOST}/d?x"),
        ("user", "nfsv://user@host.example:7447/d"),
    ):
        url = f"{prefix}/f"
        covered = entry(example().name, prefixes=[prefix])
        about = f"a prefix that has no form ({slug}), and a place that begins with it"
        yield below.fault(f"no-prefix-{slug}", about, "not-covered", no_form, entry=covered, url=url)
    many = covers(
        "prefixes", "one of two prefixes", {"prefixes": ["nfsv://other:1/", f"{HOST}/d"]}, f"{HOST}/d/f", "fim-trust-3"
    )
    yield many
    yield many.fault("no-url", "no URL, where there are prefixes", "not-covered", ("fim-trust-4",), url=None)
    both = covers(
        "both",
        "a volume and a prefix",
        {"volumes": [sample.VOLUME], "prefixes": [f"{HOST}/d"]},
        f"{HOST}/d/f",
        "fim-trust-3",
    )
    yield both
    yield both.fault("volume", "another volume", "not-covered", ("fim-trust-3",), volume=bytes(16))
    yield both.fault("url", "another place", "not-covered", ("fim-trust-3",), url=f"{HOST}/e")
