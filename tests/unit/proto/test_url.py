# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.url import Url, is_url, parse_url

names = st.binary(min_size=1, max_size=20).filter(lambda name: not ({0, 47} & set(name)) and name not in (b".", b".."))
paths = st.lists(names, max_size=6).map(b"/".join)
SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*")
"""RFC 3986's pchar, with capital hexadecimal digits."""
PCHAR = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@")


@pytest.mark.spec("fip-url-7")
@given(paths)
def test_a_path_is_written_and_read_again(path: bytes) -> None:
    url = Url("host", 7447, path)
    text = str(url)
    segments = text.removeprefix("nfsv://host:7447/").split("/")
    assert all(SEGMENT.fullmatch(segment) for segment in segments)
    assert "/".join(segments) == "".join(chr(b) if b in PCHAR | {47} else f"%{b:02X}" for b in path)
    assert parse_url(text) == url


@pytest.mark.spec("fip-url-2", "fip-url-7")
def test_the_drafts_example() -> None:
    assert str(Url("host", 7447, b"d/a\xff b")) == "nfsv://host:7447/d/a%FF%20b"
    assert parse_url("nfsv://host:7447/d/a%FF%20b").path == b"d/a\xff b"


@pytest.mark.spec("fip-url-1")
@pytest.mark.parametrize(
    "text",
    [
        "nfsv://user@host:1/a",
        "nfsv://user:secret@host:1/a",
        "nfsv://@host:1/a",
        "nfsv://host:1@other:2/a",
        "nfsv://host:1/a?b",
        "nfsv://host:1/a?",
        "nfsv://host:1?a",
        "nfsv://host:1/a#b",
        "nfsv://host:1/a#",
        "nfsv://host:1#",
    ],
)
def test_user_query_and_fragment_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_url(text)


@pytest.mark.spec("fip-url-2", "fip-url-3")
@pytest.mark.parametrize(
    "path",
    [
        "a%2Fb",
        "a%2fb",
        "%2F",
        ".",
        "..",
        "%2E",
        "%2e%2E",
        "a/./b",
        "a/../b",
        "a/%2e%2e/b",
        "../a",
        "a//b",
        "/a",
        "a%00",
    ],
)
def test_segments_that_decode_to_no_name_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_url(f"nfsv://host:1/{path}")


@pytest.mark.spec("fip-url-3")
def test_a_path_beyond_its_bounds_is_refused() -> None:
    for path in ("x" * 256, "/".join("a" * 257), "/".join(["x" * 255] * 17)):
        with pytest.raises(ValueError):
            parse_url(f"nfsv://host:1/{path}")


@pytest.mark.spec("fip-url-4")
@pytest.mark.parametrize("text", ["nfsv://host:1", "nfsv://host:1/"])
def test_no_path_is_the_root(text: str) -> None:
    assert parse_url(text) == Url("host", 1, b"")
    assert str(parse_url(text)) == "nfsv://host:1/"


@pytest.mark.spec("fip-url-5")
def test_one_slash_at_the_end_is_ignored_and_no_more() -> None:
    assert parse_url("nfsv://host:1/a/b/").path == b"a/b"
    for path in ("a//", "a/b//", "a///"):
        with pytest.raises(ValueError):
            parse_url(f"nfsv://host:1/{path}")


@pytest.mark.spec("fip-url-6")
@pytest.mark.parametrize("path", ["%", "a%", "%4", "%zz", "%4g", "%g4", "100%/x", "%%41", "% 41"])
def test_a_percent_sign_without_two_digits_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="%"):
        parse_url(f"nfsv://host:1/{path}")


@pytest.mark.spec("fip-url-8")
@given(st.text(min_size=1, max_size=20).filter(lambda text: not set("/?#%\0") & set(text) and text not in (".", "..")))
def test_characters_that_stand_for_themselves_are_their_utf_8(text: str) -> None:
    assert parse_url(f"nfsv://host:1/{text}").path == text.encode()


def test_what_a_command_line_could_not_decode_is_the_bytes_that_it_was() -> None:
    assert parse_url("nfsv://host:1/" + b"a\xff".decode("utf-8", "surrogateescape")).path == b"a\xff"
    with pytest.raises(ValueError):
        parse_url("nfsv://host:1/\ud800")


@pytest.mark.spec("fip-url-9")
@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("HOST.Example:1", "host.example", 1),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]:7447", "::1", 7447),
        ("[FE80::1]:7447", "fe80::1", 7447),
        ("a-b_c~d:1", "a-b_c~d", 1),
        ("host:00080", "host", 80),
    ],
)
def test_hosts_and_ports(authority: str, host: str, port: int) -> None:
    url = parse_url(f"nfsv://{authority}/x")
    assert (url.host, url.port, url.path) == (host, port, b"x")
    assert parse_url(str(url)) == url
    assert str(url.with_path(b"y")) == f"{url.server}/y"


@pytest.mark.parametrize(
    "text",
    [
        "nfsv://host/a",
        "nfsv://host:/a",
        "nfsv://host:0/a",
        "nfsv://host:65536/a",
        "nfsv://host:99999999999/a",
        "nfsv://host:-1/a",
        "nfsv://host:1x/a",
        "nfsv://host:\u0661/a",
        "nfsv://:1/a",
        "nfsv:///a",
        "nfsv://",
        "nfsv://::1:1/a",
        "nfsv://[::1:1/a",
        "nfsv://[host]:1/a",
        "nfsv://a b:1/a",
        "nfsv://ho\tst:1/a",
        "nfsv://h\u00f6st:1/a",
        "nfsv:/host:1/a",
        "http://host:1/a",
        "host:1/a",
        " nfsv://host:1/a",
        "",
    ],
)
def test_what_names_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a URL here|port"):
        parse_url(text)


@given(st.text(max_size=30) | st.text(max_size=30).map(lambda rest: "nfsv://host:1/" + rest))
def test_any_text_is_a_url_or_raises_the_one_error(text: str) -> None:
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert is_url(text)
    assert parse_url(str(url)) == url


def test_urls_are_told_from_paths_by_their_scheme() -> None:
    assert is_url("nfsv://x")
    assert is_url("NFSV://x")
    assert not is_url("./nfsv:/x")
    assert parse_url("NfsV://host:1/a").path == b"a"
