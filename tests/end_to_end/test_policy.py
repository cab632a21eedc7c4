# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A policy and its audit log, as people use them."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

POLICY = """\
format = 1
[audit]
[[rule]]
name = "loose"
path = "loose/**"
action = "audit"
[[rule]]
name = "off"
path = "off/**"
action = "disable"
[[rule]]
name = "new"
path = "new/**"
action = "enforce"
unsigned = "audit"
[[rule]]
name = "nobody"
path = "sub/**"
action = "enforce"
log = "off"
[rule.require]
signers.any = "CN=nobody"
"""
NEW = {"loose/bad": b"forged", "loose/new": b"a", "off/new": b"b", "new/new": b"c"}


@pytest.fixture
def signed(either: Path) -> Path:
    return either


@pytest.fixture
def policy(nfsverity: Any) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path: Path = nfsverity.home / "config" / "policy.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def mixed(nfsverity: Any, signed: Path, alice: Any) -> Path:
    """The tree, with more that is not signed, or not what was."""
    (signed / "loose").mkdir()
    (signed / "loose/bad").write_bytes(b"signed")
    nfsverity("sign", *alice.options, signed)
    for name, data in NEW.items():
        (signed / name).parent.mkdir(exist_ok=True)
        (signed / name).write_bytes(data)
    return signed


@pytest.fixture
def served(mixed: Path, serve: Any) -> str:
    url: str = serve(mixed, "--all").url
    return url


def log_of(nfsverity: Any) -> list[dict[str, Any]]:
    lines = (nfsverity.home / "state" / "audit.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == "decision"]


def verdicts(files: list[dict[str, Any]]) -> dict[str | None, Any]:
    return {file["path"]: (file["unverified"] and "UNVERIFIED") or file["verdict"] for file in files}


WITHOUT_RECORD = {"volume": "absent", "per-file": "unsigned"}
"""The verdict on a file that is not signed."""
EXPECTED = {
    "a.txt": "verified",
    "big.bin": "verified",
    "empty": "verified",
    "loose/bad": "UNVERIFIED",
    "loose/new": "UNVERIFIED",
    "off/new": "UNVERIFIED",
    "new/new": "UNVERIFIED",
    "sub/tool": "policy-refused",
    "sub/deeper/a #?% b": "policy-refused",
    None: "policy-refused",
}


@pytest.mark.spec("fim-policy-3", "fim-policy-4", "fim-policy-10", "fip-plain-9")
def test_cat(nfsverity: Any, served: str, policy: Any) -> None:
    assert nfsverity("cat", f"{served}/loose/bad", status=1).out == b""
    policy(POLICY)
    assert nfsverity("cat", f"{served}/a.txt").err.count("UNVERIFIED") == 0
    for name, data in NEW.items():
        result = nfsverity("cat", f"{served}/{name}", status=5)
        assert result.out == data
        assert f"UNVERIFIED: {served}/{name}: rule " in result.err
    result = nfsverity("cat", "--json", "--offset", "4", f"{served}/loose/bad", status=5)
    assert result.out == NEW["loose/bad"][4:]
    value = json.loads(result.err[result.err.index("{") :])
    assert (value["unverified"], value["verdict"]) == ('rule "loose", line 3 has let it pass', "mismatch")
    assert (value["volume"], value["signers"]) == (None, [])
    refused = nfsverity("cat", f"{served}/sub/tool", status=1)
    assert refused.out == b""
    assert 'policy-refused: it is not signed by any that the rule names (expected "CN=nobody"' in refused.err
    assert '[rule "nobody", line 16]' in refused.err
    err = nfsverity("cat", "--json", f"{served}/sub/tool", status=1).err
    assert json.loads(err[err.index("{") :])["error"]["rule"] == 'rule "nobody", line 16'


def test_get_and_verify(nfsverity: Any, served: str, policy: Any, tmp_path: Path, mixed: Path, form: str) -> None:
    policy(POLICY)
    beside = {"loose/new", "off/new", "new/new"} if form == "volume" else set()  # which no volume lists
    listed = {path: verdict for path, verdict in EXPECTED.items() if path not in beside}
    directories = {"new": "absent", "off": "absent"} if form == "volume" else {}  # which no rule is about
    value = nfsverity.json("get", f"{served}/", str(tmp_path / "copy"), status=1)
    assert verdicts(value["files"]) == listed
    assert (value["verified"], value["unverified"], value["failed"]) == (3, 4 - len(beside), 3)
    for name, data in NEW.items():
        if name in beside:
            continue
        assert (tmp_path / "copy" / name).read_bytes() == data
        assert stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) & 0o111 == 0
    assert [path for path in (tmp_path / "copy/sub").rglob("*") if path.is_file()] == []
    assert nfsverity("get", f"{served}/loose/bad", tmp_path / "one", status=5).err.count("UNVERIFIED") == 1
    assert (tmp_path / "one").read_bytes() == NEW["loose/bad"]
    for target, expected in ((f"{served}/", listed), (str(mixed), EXPECTED | directories)):
        value = nfsverity.json("verify", target, status=1)
        assert verdicts(value["files"]) == expected
    for target, count in ((f"{served}/loose", 1 if beside else 2), (str(mixed / "loose"), 2)):
        result = nfsverity("verify", target, status=5)
        assert (
            "0 files verified, 0 bytes; {} UNVERIFIED, as the policy says".format("2 files" if count == 2 else "1 file")
            in result.text
        )
        assert "(its verdict: mismatch)" in result.err
        assert (f"(its verdict: {WITHOUT_RECORD[form]})" in result.err) == (count == 2)


@pytest.mark.spec("fim-policy-10", "fim-policy-12")
@pytest.mark.parametrize("form", ["volume"], indirect=True)
def test_beside_a_volume_is_without_a_record_and_a_volume_without_its_head_is_not(
    nfsverity: Any, signed: Path, template: Path, policy: Any, serve: Any, tmp_path: Path
) -> None:
    (signed / "new").write_bytes(b"not signed")
    server = serve(signed, "--all")
    assert "absent" in nfsverity("cat", f"{server.url}/new", status=1).err
    policy('format = 1\n[[rule]]\nname = "new"\naction = "enforce"\nunsigned = "allow"\n')
    assert nfsverity("cat", f"{server.url}/new", status=5).out == b"not signed"
    server.stop()
    headless = shutil.copytree(template / "records" / "tree", tmp_path / "headless")
    (headless / "new").write_bytes(b"of the server")
    again = serve(headless, "--all", "--listen", f"127.0.0.1:{server.port}")
    result = nfsverity("cat", f"{again.url}/new", status=1)
    assert result.out == b""
    assert "unsigned: the volume had a head, and the server gives none" in result.err
    shutil.rmtree(nfsverity.home / "state")  # who has seen no head takes the server's word
    assert nfsverity("cat", f"{again.url}/new", status=5).out == b"of the server"


@pytest.mark.spec("fim-policy-12")
@pytest.mark.parametrize("form", ["volume"], indirect=True)
def test_a_tree_on_this_machine_that_lost_its_head(nfsverity: Any, signed: Path, template: Path, policy: Any) -> None:
    nfsverity("verify", signed)
    policy('format = 1\n[[rule]]\nname = "new"\naction = "enforce"\nunsigned = "allow"\n')
    (signed / "new").write_bytes(b"of somebody else")
    nfsverity("verify", signed / "new", status=5)
    shutil.rmtree(signed / ".nfsverity")
    shutil.copytree(template / "records" / "tree" / ".nfsverity", signed / ".nfsverity")
    assert "unsigned" in nfsverity("verify", signed / "new", status=1).err
    shutil.rmtree(nfsverity.home / "state")
    nfsverity("verify", signed / "new", status=5)


@pytest.mark.parametrize("form", ["volume"], indirect=True)
@pytest.mark.parametrize(
    ("says", "problems"),
    [
        ('action = "enforce"\nunsigned = "allow"', {"changed": "mismatch"}),
        ('action = "audit"', {}),
        ('action = "disable"', {}),
    ],
)
def test_links_and_directories_beside_a_volume_pass_as_files_do(
    nfsverity: Any, signed: Path, alice: Any, policy: Any, says: str, problems: dict[str, str]
) -> None:
    """In a tree on this machine."""
    (signed / "changed").symlink_to("a.txt")
    nfsverity("sign", *alice.options, signed)
    (signed / "extra" / "empty").mkdir(parents=True)
    (signed / "extra" / "file").write_bytes(b"new")
    (signed / "link").symlink_to("a.txt")
    (signed / "changed").unlink()
    (signed / "changed").symlink_to("empty")
    (signed / "other").mkdir()
    rule = f'[[rule]]\nname = "extras"\npath = ["extra", "extra/**", "link", "changed"]\n{says}\n'
    policy(f"format = 1\n{rule}")
    files = {file["path"]: file for file in nfsverity.json("verify", str(signed), status=1)["files"]}
    bad = {path: file["verdict"] for path, file in files.items() if file["error"]}
    assert bad == {"other": "absent", **problems}
    passed = {path for path, file in files.items() if file["unverified"]}
    assert passed == {"extra", "extra/empty", "extra/file", "link", "changed"} - problems.keys()
    (signed / "other").rmdir()
    nfsverity("verify", signed, status=1 if problems else 5)


REQUIREMENTS = {
    "hash": ('hash = ["sha256"]', 'hash = ["sha512"]', "refused-algorithm"),
    "scheme": ('scheme = ["ed25519"]', 'scheme = ["ml-dsa-65"]', "refused-algorithm"),
    "unit_size": ("unit_size = { max = 65536 }", "unit_size = { max = 32768 }", "refused-algorithm"),
    "any signer": (
        'signers = { any = ["CN=alice-ed25519", "CN=nobody"] }',
        'signers = { any = ["CN=nobody"] }',
        "policy-refused",
    ),
    "all signers": (
        'signers = { all = ["CN=alice-ed25519"] }',
        'signers = { all = ["CN=alice-ed25519", "CN=nobody"] }',
        "policy-refused",
    ),
    "generation": ("min_generation = 1", "min_generation = 9000000000000000000", "policy-refused"),
    "executable": ('max_age = "1d"', "executable = true", "policy-refused"),
    "count": ("signers = { count = 1 }", "signers = { count = 2 }", "too-few-signers"),
}
"""By name: one that the tree meets, one that it does not, and the verdict then."""


@pytest.mark.spec("fim-policy-10")
@pytest.mark.parametrize("name", REQUIREMENTS)
def test_each_requirement(nfsverity: Any, url: str, policy: Any, name: str) -> None:
    met, unmet, verdict = REQUIREMENTS[name]
    rule = 'format = 1\n[[rule]]\nname = "r"\naction = "enforce"\n[rule.require]\n'
    policy(rule + met)
    assert nfsverity("cat", f"{url}/a.txt").out == b"hello\n"
    policy(rule + unmet)
    err = nfsverity("cat", "--json", f"{url}/a.txt", status=1).err
    error = json.loads(err[err.index("{") :])["error"]
    assert error["verdict"] == verdict
    assert 'rule "r"' in error["rule"]


@pytest.mark.spec("fim-policy-11")
@pytest.mark.parametrize("how", ["misspelled", "missing", "a directory"])
def test_without_the_policy_that_was_named_nothing_goes_on(
    nfsverity: Any, served: str, policy: Any, mixed: Path, tmp_path: Path, how: str
) -> None:
    options: list[str] = []
    if how == "misspelled":
        policy(POLICY.replace("action", "acton"))
    else:
        options = ["--policy", str(tmp_path if how == "a directory" else tmp_path / "none.toml")]
    for line in (["cat", f"{served}/a.txt"], ["get", f"{served}/a.txt", str(tmp_path / "x")], ["verify", str(mixed)]):
        assert nfsverity(*line, *options, status=4).out == b""
    assert not (tmp_path / "x").exists()


def test_check(nfsverity: Any, policy: Any, tmp_path: Path) -> None:
    assert "everything is enforced" in nfsverity("policy", "check").text
    assert nfsverity.json("policy", "check") == {
        "command": "policy check", "status": 0, "policy": None, "rules": None, "problems": []}  # fmt: skip
    path = policy(POLICY)
    assert nfsverity("policy", "check").text == f"{path}: 4 rules, nothing wrong\n"
    path = tmp_path / "new.toml"
    path.write_text('format = 1\n[[rule]]\nname = "a"\naction = "audit"\ngate = "x"\nfoo = 1\n')
    result = nfsverity("policy", "check", path, status=1)
    assert [line.split(": ")[2] for line in result.err.splitlines()] == ["line 5", "line 6"]
    value = nfsverity.json("policy", "check", str(path), status=1)
    assert [problem["line"] for problem in value["problems"]] == [5, 6]
    nfsverity("policy", "check", tmp_path / "none", status=4)


def test_explain(nfsverity: Any, served: str, policy: Any, mixed: Path) -> None:
    assert "no policy: everything is enforced" in nfsverity("policy", "explain", f"{served}/x").text
    path = policy(POLICY)
    value = nfsverity.json("policy", "explain", f"{served}/sub/tool")
    assert [gate["gate"] for gate in value["gates"]] == ["open", "read", "exec", "mmap"]
    first = value["gates"][0]
    assert (value["policy"], first["rule"], first["line"], first["action"]) == (str(path), "nobody", 16, "enforce")
    assert first["skipped"][0] == {"rule": "loose", "line": 3, "why": "the path fits none of its patterns"}
    assert value["gates"][2]["requirements"] == ["signed by one of: CN=nobody", "signed as executable"]
    local = nfsverity.json("policy", "explain", "--gate", "read", str(mixed / "loose/bad"))
    assert (local["path"], local["gates"][0]["rule"], local["gates"][0]["action"]) == ("loose/bad", "loose", "audit")
    text = nfsverity("policy", "explain", "--gate", "open", f"{served}/new/new").text
    assert 'open  enforce, by rule "new", line 11' in text
    assert "files without a record pass UNVERIFIED (audit)" in text
    assert 'not rule "loose", line 3: the path fits none of its patterns' in text


def test_the_log_says_which_head_vouched_for_which_content(
    nfsverity: Any, serve: Any, signed: Path, form: str, alice: Any
) -> None:
    log = ("--audit-log", str(nfsverity.home / "log"))
    tags: list[tuple[str, str | None]] = []
    for again in (False, True):
        if again:  # another state of the volume; of the file, the same version
            nfsverity("sign", *alice.options, *(["--renew", "--days", "9"] if form == "volume" else []), signed)
        file = nfsverity.json("show", signed / "a.txt")
        tags.append((file["tag"], file["head"] and file["head"]["tag"]))
        nfsverity("cat", f"{serve(signed).url}/a.txt", *log)
        nfsverity("verify", signed / "a.txt", *log)
    assert (tags[0] == tags[1]) == (form == "per-file")
    lines = [json.loads(line) for line in (nfsverity.home / "log").read_text().splitlines()][1:]
    said = [(line["version"]["tag"], line["version"]["head"]) for line in lines]
    assert said == [tags[0]] * 4 + [tags[1]] * 4
    uses = nfsverity.json("audit", "summary", nfsverity.home / "log")["uses"]
    shown = nfsverity("audit", "summary", nfsverity.home / "log").text
    heads = [head for _, head in tags if head is not None]
    local = next(use for use in uses if use["file"].startswith("file:"))
    assert (local["count"], [head["tag"] for head in local["heads"]]) == (4, heads)
    assert (local["version"]["tag"], local["version"]["head"]) == tags[1]
    assert all(head in shown for head in heads)


def test_the_log(nfsverity: Any, served: str, policy: Any, mixed: Path, form: str) -> None:
    policy(POLICY)
    nfsverity("cat", f"{served}/a.txt")
    nfsverity("verify", mixed / "loose", status=5)
    nfsverity("cat", f"{served}/sub/tool", status=1)  # its rule says log = "off"
    lines = log_of(nfsverity)
    assert [(line["gate"], line["file"].rpartition("/")[2], line["verdict"], line["outcome"]) for line in lines] == [
        ("open", "a.txt", "verified", "allowed"),
        ("read", "a.txt", "verified", "allowed"),
        ("open", "bad", "verified", "allowed"),
        ("read", "bad", "mismatch", "allowed"),
        ("open", "new", WITHOUT_RECORD[form], "allowed"),
        ("read", "new", WITHOUT_RECORD[form], "allowed"),
    ]
    assert lines[0]["version"]["path"] == "a.txt"
    assert (lines[2]["rule"], lines[2]["line"], lines[2]["action"]) == ("loose", 3, "audit")
    shown = nfsverity("audit", "verify").text
    assert shown.startswith("7 lines, intact; the last is 7:")
    uses = nfsverity.json("audit", "summary")["uses"]
    assert [(use["file"].rpartition("/")[2], use["count"]) for use in uses] == [("a.txt", 2), ("bad", 2), ("new", 2)]
    assert "2 verified" in nfsverity("audit", "summary").text
    head = shown.rpartition(" ")[2].strip()
    log = nfsverity.home / "state" / "audit.jsonl"
    log.rename(log.with_name("audit.jsonl.1"))
    nfsverity("cat", f"{served}/a.txt")
    assert nfsverity.json("audit", "verify")["lines"] == 10
    assert nfsverity("audit", "verify", log, status=1).err.count("lines 1 to 7 are not in the files given") == 1
    nfsverity("audit", "verify", "--first", "8", log)
    nfsverity("audit", "verify", "--head", head, log.with_name("audit.jsonl.1"))
    nfsverity("audit", "verify", "--head", "7:00", log, status=2)
    whole = log.read_bytes()
    for changed in (whole.replace(b"allowed", b"refused", 1), whole[: whole.index(b"\n") + 1], b""):
        log.write_bytes(changed)
        assert not nfsverity.json("audit", "verify", status=1)["intact"]
        assert "NOT INTACT" in nfsverity("audit", "verify", status=1).text


def test_a_log_for_one_command(nfsverity: Any, url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert nfsverity("cat", "--audit-log", log, f"{url}/a.txt").out == b"hello\n"
    assert nfsverity.json("audit", "verify", str(log))["lines"] == 3
    assert nfsverity("audit", "summary", log).text.endswith("2 decisions; 1 begin\n")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(log.read_bytes().replace(b"\n", b"!\n", 1) + b"half")
    result = nfsverity("audit", "summary", damaged)
    assert "2 decisions\n" in result.text
    assert "bytes are no line of an audit log: `nfsverity audit verify` tells more" in result.err
    whole, cut = (nfsverity.json("audit", "summary", str(path))["other"] for path in (log, damaged))
    assert (whole, cut) == (0, log.read_bytes().index(b"\n") + 2 + 4)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    result = nfsverity("cat", "--audit-log", full, f"{url}/a.txt", status=4)
    assert result.out == b""
    nfsverity("audit", "verify", status=4)
    nfsverity("audit", "verify", tmp_path / "none", status=4)
