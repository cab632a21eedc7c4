# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Names and paths (fim-path, fip-resolve), and URLs (fip-url)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from .form import Vector

NAMES: dict[str, bytes] = {
    "1": b"x",
    "255": b"n" * 255,
    "three-dots": b"...",
    "four-dots": b"....",
    "dot-x": b".x",
    "x-dot": b"x.",
    "dot-dot-x": b"..x",
    "x-dot-dot": b"x..",
    "dot-space": b". ",
    "space": b" ",
    "backslash": b"\\",
    "01": b"\x01",
    "7f": b"\x7f",
    "80": b"\x80",
    "ff": b"\xff",
    "c0-ae": b"\xc0\xae",
    "not-utf-8": b"\xc3\x28",
    "surrogate": b"\xed\xa0\x80",
    "utf-8": "größe".encode(),
    "combining": "gro\u0308ße".encode(),
    "fullwidth-dots": "．．".encode(),
    "fullwidth-slash": "a／b".encode(),
    "newline": b"a\nb",
    "colon": b"C:",
    "percent": b"%2F",
    "question": b"a?b#c",
    "con": b"CON",
    "fim": b"data.fim",
}
NOT_NAMES: dict[str, tuple[str, bytes]] = {
    "empty": ("no bytes", b""),
    "dot": ('"."', b"."),
    "dot-dot": ('".."', b".."),
    "nul": ("a zero byte", b"\0"),
    "nul-start": ("a zero byte at the start", b"\0a"),
    "nul-end": ("a zero byte at the end", b"a\0"),
    "nul-dot": ('"." and a zero byte', b".\0"),
    "256": ("256 bytes", b"n" * 256),
    "4095": ("4,095 bytes", b"n" * 4095),
}
LONGEST = b"/".join([b"p" * 255] * 15 + [b"q" * 127, b"r" * 127])
PATHS: dict[str, bytes] = {
    "two": b"a/b",
    "deep-256": b"/".join([b"d"] * 256),
    "4095": LONGEST,
    "names-255": b"/".join([b"n" * 255] * 15),
    "same": b"a/a/a",
    "dots-inside": b"a/.../b",
    "hidden": b".a/.b",
    "case": b"A/a",
    "not-utf-8": b"\xff/\xfe",
    "worked": b"usr/share/doc/integrity/worked/README.md",
}
NOT_PATHS: dict[str, tuple[str, bytes]] = {
    "slash": ("a slash alone", b"/"),
    "slash-start": ("a slash at the start", b"/a"),
    "slash-end": ("a slash at the end", b"a/"),
    "slashes": ("two slashes", b"a//b"),
    "slashes-start": ("two slashes at the start", b"//a"),
    "dot-first": ('"." first', b"./a"),
    "dot-inside": ('"." inside', b"a/./b"),
    "dot-last": ('"." last', b"a/."),
    "dot-dot-first": ('".." first', b"../a"),
    "dot-dot-inside": ('".." inside', b"a/../b"),
    "dot-dot-last": ('".." last', b"a/.."),
    "nul-inside": ("a zero byte inside", b"a\0/b"),
    "nul-name": ("a name that is a zero byte", b"a/\0/b"),
    "name-256": ("a name of 256 bytes", b"a/" + b"n" * 256),
    "deep-257": ("257 names", b"/".join([b"d"] * 257)),
    "4096": ("4,096 bytes", LONGEST + b"r"),
    "deep-2048": ("2,048 names", b"/".join([b"d"] * 2048)),
}
UTF8 = ("not-utf-8", "ff", "80", "c0-ae", "surrogate")


def paths() -> Iterator[Vector]:
    base: dict[str, Vector] = {}
    for of, rule in (("name", "fim-path-2"), ("path", "fim-path-3")):
        for slug, name in NAMES.items():
            clauses = [
                rule,
                "fim-path-2",
                *(["fim-path-7"] if slug in UTF8 else []),
                *(["fip-resolve-2"] if of == "path" else ["fim-path-8"]),
            ]
            vector = Vector(
                f"{of}-{slug}",
                f"a {of} of one name: {slug}",
                _once(clauses),
                {"of": of, "bytes": name},
                output={"names": [name]},
            )
            base.setdefault(of, vector)
            yield vector
        for slug, (about, name) in NOT_NAMES.items():
            if of == "path" and slug == "empty":
                continue
            yield base[of].fault(
                slug,
                about,
                "invalid",
                _once([rule, "fim-path-2", "fip-resolve-2" if of == "path" else "fim-path-8"]),
                bytes=name,
            )
    for slug, name in (("slash", b"/"), ("slash-inside", b"a/b"), ("slash-end", b"a/")):
        yield base["name"].fault(
            slug, f"a name with a slash: {slug}", "invalid", ("fim-path-2", "fim-path-8"), bytes=name
        )
    yield Vector(
        "path-empty",
        "the empty path: the root, or the base of a call",
        ("fim-path-3", "fip-resolve-5"),
        {"of": "path", "bytes": b""},
        output={"names": []},
    )
    for slug, path in PATHS.items():
        vector = Vector(
            f"path-{slug}",
            f"a path: {slug}",
            ("fim-path-2", "fim-path-3", "fip-resolve-2", *(["fim-path-7"] if slug in UTF8 else [])),
            {"of": "path", "bytes": path},
            output={"names": path.split(b"/")},
        )
        if slug not in NAMES:
            yield vector
    for slug, (about, path) in NOT_PATHS.items():
        yield base["path"].fault(slug, about, "invalid", ("fim-path-2", "fim-path-3", "fip-resolve-2"), bytes=path)
    same = {"of": "compare", "bytes": "größe".encode(), "with": "größe".encode()}
    compared = Vector("compare-same", "the same bytes", ("fim-path-5", "fip-resolve-1"), same)
    yield compared
    for slug, about, other in (
        ("normal-form", "in another normal form of Unicode", "gro\u0308ße".encode()),
        ("case", "in capital letters", "GRÖSSE".encode()),
        ("first", "with a capital first letter", "Größe".encode()),
        ("latin", "in another encoding", "größe".encode("latin-1")),
        ("space", "with a space after it", "größe ".encode()),
        ("shorter", "shorter by a letter", "größ".encode()),
    ):
        yield compared.fault(
            slug, f"the name {about}", "different", ("fim-path-5", "fip-resolve-1"), **cast(Any, {"with": other})
        )


def _once(items: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(items))


HOST = "nfsv://host:7447"
PCHAR = b"-._~!$&'()*+,;=:@"
"""What stands for itself in a segment beside letters and digits (RFC 3986 section 3.3)."""


def written(path: bytes) -> str:
    """A path as fip-url-7 writes it."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in PCHAR or byte == 0x2F) else f"%{byte:02X}"
        for byte in path
    )


def urls() -> Iterator[Vector]:
    def good(
        slug: str, about: str, url: str, path: bytes, clauses: Sequence[str], host: str = "host", port: int = 7447
    ) -> Vector:
        output: dict[str, Any] = {"host": host, "port": port, "path": path}
        shown = f"[{host}]" if ":" in host else host
        output["canonical"] = f"nfsv://{shown}:{port}/{written(path)}"
        return Vector(f"url-{slug}", about, clauses, {"url": url}, output=output)

    base = good(
        "example",
        "the example of the draft",
        f"{HOST}/d/a%FF%20b",
        b"d/a\xff b",
        ("fip-url-2", "fip-url-3", "fip-url-7"),
    )
    yield base
    clauses: tuple[str, ...]
    for slug, about, url, path, clauses in (
        ("root", "no path", HOST, b"", ("fip-url-4",)),
        ("root-slash", "the path /", f"{HOST}/", b"", ("fip-url-4", "fip-url-5")),
        ("slash-end", "a slash at the end", f"{HOST}/a/b/", b"a/b", ("fip-url-5",)),
        ("one", "one segment", f"{HOST}/a", b"a", ("fip-url-2", "fip-url-9")),
        (
            "lower-hex",
            "lower-case hexadecimal digits",
            f"{HOST}/%ff%c3%a9",
            b"\xff\xc3\xa9",
            ("fip-url-2", "fip-url-6"),
        ),
        ("mixed-hex", "hexadecimal digits of both cases", f"{HOST}/%fF%Ff", b"\xff\xff", ("fip-url-6",)),
        ("needless", "encoding that is not needed", f"{HOST}/%61%2D%7E", b"a-~", ("fip-url-7",)),
        ("percent", "an encoded percent sign", f"{HOST}/100%25", b"100%", ("fip-url-6",)),
        (
            "percent-twice",
            "an encoded percent sign before digits: decoded once",
            f"{HOST}/%252F",
            b"%2F",
            ("fip-url-2", "fip-url-6"),
        ),
        ("question", "an encoded question mark and number sign", f"{HOST}/%3F%23", b"?#", ("fip-url-1", "fip-url-7")),
        ("pchar", "what stands for itself", f"{HOST}/{PCHAR.decode()}", PCHAR, ("fip-url-7",)),
        (
            "pchar-encoded",
            "what would stand for itself, encoded",
            f"{HOST}/{''.join(f'%{byte:02X}' for byte in PCHAR)}",
            PCHAR,
            ("fip-url-7",),
        ),
        ("colon", "a colon in the first segment", f"{HOST}/a:b", b"a:b", ("fip-url-7",)),
        ("at", "an @ in the path", f"{HOST}/a@b", b"a@b", ("fip-url-1", "fip-url-7")),
        ("plus", "a plus sign stands for itself", f"{HOST}/a+b", b"a+b", ("fip-url-7",)),
        ("backslash", "an encoded backslash", f"{HOST}/a%5Cb", b"a\\b", ("fip-url-3", "fip-url-7")),
        ("controls", "encoded control characters", f"{HOST}/%01%0A%7F", b"\x01\n\x7f", ("fip-url-3", "fip-url-7")),
        ("dots", "names that begin with dots", f"{HOST}/.../.a/..b", b".../.a/..b", ("fip-url-3",)),
        ("name-255", "a name of 255 bytes", f"{HOST}/{'n' * 255}", b"n" * 255, ("fip-url-3",)),
        ("name-255-encoded", "a name of 255 bytes, encoded", f"{HOST}/{'%FF' * 255}", b"\xff" * 255, ("fip-url-3",)),
        ("deep-256", "256 names", HOST + "/d" * 256, b"/".join([b"d"] * 256), ("fip-url-3",)),
        ("4095", "a path of 4,095 bytes", f"{HOST}/{LONGEST.decode()}", LONGEST, ("fip-url-3",)),
        (
            "unencoded",
            "a letter that RFC 3986 does not allow in a path",
            f"{HOST}/größe",
            "größe".encode(),
            ("fip-url-8",),
        ),
        ("unencoded-space", "a space, unencoded", f"{HOST}/a b", b"a b", ("fip-url-8",)),
        (
            "every-byte",
            "each byte of a name but / and zero",
            f"{HOST}/{written(bytes(range(1, 47)) + bytes(range(48, 256)))}",
            bytes(range(1, 47)) + bytes(range(48, 256)),
            ("fip-url-7", "fip-url-2"),
        ),
        ("scheme-case", "the scheme in capital letters", "NFSV://host:7447/a", b"a", ("fip-url-9",)),
    ):
        flags = ["may-refuse"] if "fip-url-8" in clauses else []
        vector = good(slug, about, url, path, clauses)
        vector.flags = flags
        yield vector
    for slug, about, url, host, port in (
        ("ipv4", "an IPv4 address", "nfsv://192.0.2.1:7447/a", "192.0.2.1", 7447),
        ("ipv6", "an IPv6 address", "nfsv://[2001:db8::1]:7447/a", "2001:db8::1", 7447),
        ("host-case", "a host in capital letters", "nfsv://HOST.Example:7447/a", "host.example", 7447),
        ("port-1", "port 1", "nfsv://host:1/a", "host", 1),
        ("port-65535", "port 65535", "nfsv://host:65535/a", "host", 65535),
    ):
        yield good(slug, about, url, b"a", ("fip-url-1",), host, port)
    for slug, about, url, clauses in (
        ("user", "user information", "nfsv://user@host:7447/a", ("fip-url-1",)),
        ("user-password", "user and password", "nfsv://user:password@host:7447/a", ("fip-url-1",)),
        ("user-empty", "empty user information", "nfsv://@host:7447/a", ("fip-url-1",)),
        ("query", "a query", f"{HOST}/a?b", ("fip-url-1",)),
        ("query-empty", "an empty query", f"{HOST}/a?", ("fip-url-1",)),
        ("query-root", "a query without a path", f"{HOST}?a", ("fip-url-1",)),
        ("fragment", "a fragment", f"{HOST}/a#b", ("fip-url-1",)),
        ("fragment-empty", "an empty fragment", f"{HOST}/a#", ("fip-url-1",)),
        ("encoded-slash", "an encoded slash: a name has none", f"{HOST}/a%2Fb", ("fip-url-2", "fip-url-3")),
        ("encoded-slash-lower", "an encoded slash in lower case", f"{HOST}/d/a%2fb", ("fip-url-2", "fip-url-3")),
        ("encoded-slash-only", "an encoded slash alone", f"{HOST}/%2F", ("fip-url-2", "fip-url-3", "fip-url-4")),
        ("encoded-slash-end", "an encoded slash at the end", f"{HOST}/a%2F", ("fip-url-2", "fip-url-5")),
        ("dot", "a dot segment", f"{HOST}/./a", ("fip-url-3",)),
        ("dot-dot", "two dots", f"{HOST}/a/../b", ("fip-url-3",)),
        ("dot-dot-end", "two dots at the end", f"{HOST}/a/..", ("fip-url-3",)),
        ("dot-encoded", "an encoded dot segment", f"{HOST}/%2E/a", ("fip-url-3",)),
        ("dot-dot-encoded", "two dots, encoded", f"{HOST}/a/%2e%2E/b", ("fip-url-3",)),
        ("slashes", "an empty segment", f"{HOST}/a//b", ("fip-url-3",)),
        ("slashes-end", "two slashes at the end", f"{HOST}/a//", ("fip-url-3", "fip-url-5")),
        ("slashes-start", "an empty first segment", f"{HOST}//a", ("fip-url-3", "fip-url-4")),
        ("nul", "an encoded zero byte", f"{HOST}/a%00", ("fip-url-3",)),
        ("name-256", "a name of 256 bytes", f"{HOST}/{'n' * 256}", ("fip-url-3",)),
        ("name-256-encoded", "a name of 256 bytes, encoded", f"{HOST}/{'%FF' * 256}", ("fip-url-3",)),
        ("deep-257", "257 names", HOST + "/d" * 257, ("fip-url-3",)),
        ("4096", "a path of 4,096 bytes", f"{HOST}/{LONGEST.decode()}r", ("fip-url-3",)),
        ("percent-end", "a percent sign at the end", f"{HOST}/a%", ("fip-url-6",)),
        ("percent-one", "a percent sign and one digit", f"{HOST}/a%2", ("fip-url-6",)),
        ("percent-slash", "a percent sign before the slash", f"{HOST}/a%2/0", ("fip-url-6",)),
        ("percent-letter", "a percent sign and other letters", f"{HOST}/a%zz", ("fip-url-6",)),
        ("percent-sign", "a percent sign and a signed number", f"{HOST}/a%+1", ("fip-url-6",)),
        ("percent-space", "a percent sign and a space", f"{HOST}/a% 1", ("fip-url-6",)),
        ("percent-percent", "two percent signs", f"{HOST}/%%41", ("fip-url-6",)),
        ("no-port", "no port: none is assigned yet", "nfsv://host/a", ("fip-url-9",)),
        ("port-empty", "an empty port", "nfsv://host:/a", ("fip-url-9",)),
        ("port-0", "port 0", "nfsv://host:0/a", ("fip-url-9",)),
        ("port-65536", "a port above 65535", "nfsv://host:65536/a", ("fip-url-9",)),
        ("scheme", "another scheme", "nfs://host:7447/a", ("fip-url-9",)),
        ("no-slashes", "no authority", "nfsv:/a", ("fip-url-9",)),
        ("no-host", "no host", "nfsv://:7447/a", ("fip-url-9",)),
    ):  # fmt: skip
        yield base.fault(slug, about, "invalid", clauses, url=url)
