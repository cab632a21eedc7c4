# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A reader that is killed at each step: what was delivered is remembered and logged; the next run does the rest."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nfsverity_client.audit_reading import check
from nfsverity_client.marks import MarkStore
from nfsverity_client.state import State

from .steps import TRIES, Step, killed, steps_of, strace

pytestmark = [pytest.mark.tool("strace")]
OLD, NEW = os.urandom(300_000), os.urandom(300_000)
NAMES = {
    "home/state": {"state.db", "state.db.lock", "bindings.json", "bindings.json.lock", "audit"},
    "home/cache": {"nodes.sqlite3", "nodes.sqlite3-journal", "nodes.lock"},
    "home/config": {"trust.json", "trust.json.lock"},
    "work": {"copy", "log"},
}
"""What may be there when a run has ended well."""


@dataclass
class Reading:
    """A user who reads what is served, and what is at stake."""

    user: Any
    at: Path
    """Where everything is that a run changes."""
    model: Path
    """The same as it was before the run."""
    arguments: tuple[Any, ...]
    generations: tuple[int, int]
    """Accepted before, 0 for none; and now."""
    tag: str
    """Of the version that is served."""
    names: set[str]
    """In the tree."""

    def restore(self) -> None:
        shutil.rmtree(self.at)
        shutil.copytree(self.model, self.at, symlinks=True)

    @property
    def copy(self) -> bytes | None:
        """What is at the destination, if anything is."""
        path = self.at / "work" / "copy"
        if path.is_dir():
            path = path / "large"
        return path.read_bytes() if path.exists() else None

    def marked(self) -> int:
        """The highest generation of the state."""
        state = State(self.at / "home" / "state")
        try:
            return max((kept.mark.generation for kept in MarkStore(state).find(path=b"")), default=0) or max(
                (kept.mark.generation for kept in MarkStore(state).find(path=b"large")), default=0
            )
        finally:
            state.close()

    def logged(self) -> list[dict[str, Any]]:
        """The decisions in the log, of which nothing is lost."""
        log = self.at / "work" / "log"
        found = check([log], state=self.at / "home" / "state") if log.exists() else None
        assert found is None or found.intact, found
        lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
        return [line for line in map(json.loads, filter(_is_whole, lines)) if line["event"] == "decision"]

    def check_ended(self) -> None:
        for directory, names in NAMES.items():
            found = {path.name for path in (self.at / directory).iterdir()} if (self.at / directory).exists() else set()
            assert found <= names, directory
        if self.arguments[0] == "get":
            assert self.copy == NEW
            inside = self.at / "work" / "copy"
            assert not inside.is_dir() or {path.name for path in inside.iterdir()} == self.names
        assert self.marked() == self.generations[1]
        last = self.logged()[-1]
        assert (last["verdict"], last["outcome"]) == ("verified", "allowed")


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def publish(user: Any, alice: Any, tree: Path, form: str, content: bytes) -> tuple[int, str]:
    """The generation, and the tag of the file."""
    (tree / "d").mkdir(parents=True, exist_ok=True)
    (tree / "large").write_bytes(content)
    (tree / "small").write_bytes(content[:9])
    (tree / "d" / "deep").write_bytes(b"deep")
    if form == "volume" and not (tree / "link").exists():
        (tree / "link").symlink_to("small")
    chosen = "--per-file" if form == "per-file" else "--as-volume"
    user("sign", *alice.options, "--unit-size", "4K", chosen, tree)
    shown = user.json("show", "--trust", str(alice.certificate), str(tree / "large"))
    return int(shown["generation"]), shown["tag"]


PARTS = {
    "state": ("home/state/state.db", "home/state/bindings"),
    "audit": ("home/state/audit", "work/log"),
    "cache": ("home/cache",),
    "copy": ("work",),
}
"""What a step may be about: files whose names begin so."""
RUNS = [
    ("get-first", "get", "large", "per-file", False, ("state", "audit", "cache", "copy")),
    ("get-newer", "get", "large", "volume", True, ("copy",)),
    ("tree-first", "get", "", "volume", False, ("copy",)),
    ("tree-newer", "get", "", "per-file", True, ("copy",)),
    ("cat-newer", "cat", "large", "volume", True, ("state", "audit")),
    ("verify-newer", "verify", "large", "per-file", True, ("state",)),
]
"""`newer`: a version was accepted before, and is at the destination."""


@pytest.mark.timeout(300)
@pytest.mark.spec("fim-mark-3")
@pytest.mark.parametrize(
    ("command", "path", "form", "before", "part"),
    [pytest.param(*run, part, id=f"{name}-{part}") for name, *run, parts in RUNS for part in parts],
)
def test_at_every_step(
    nfsverity: Any, alice: Any, serve: Any, tmp_path: Path, command: str, path: str, form: str, before: bool, part: str
) -> None:
    at, tree = tmp_path / "at", tmp_path / "tree"
    user = type(nfsverity)(at / "home")
    (at / "work").mkdir(parents=True)
    user("trust", "add", alice.certificate)
    log, copy = ("--audit-log", str(at / "work" / "log")), at / "work" / "copy"
    first, _ = publish(nfsverity, alice, tree, form, OLD)
    url = serve(tree).url
    arguments = (command, *log, f"{url}/{path}", *([copy] if command == "get" else []))
    if before:
        user(*arguments)
    generation, tag = publish(nfsverity, alice, tree, form, NEW)
    shutil.copytree(at, tmp_path / "model", symlinks=True)
    names = {path.name for path in tree.iterdir()} - {".nfsverity"} - ({"link"} if form == "per-file" else set())
    reading = Reading(user, at, tmp_path / "model", arguments, (first if before else 0, generation), tag, names)

    done = strace(user, arguments, tmp_path / "calls")
    assert done.returncode == 0, done.stderr
    reading.check_ended()
    beginnings = tuple(str(at / name) for name in PARTS[part])
    steps = [step for step in steps_of(tmp_path / "calls", at) if step.path.startswith(beginnings)]
    if part == "copy":
        steps = [step for step in steps if not step.path.startswith(str(at / "work/log"))]
    assert len(steps) > 4
    for step in steps:
        check_killed(reading, tmp_path / "calls", step)


def check_killed(reading: Reading, calls: Path, step: Step) -> None:
    said = None
    for _ in range(TRIES):
        reading.restore()
        said = killed(reading.user, reading.arguments, calls, step)
        if said is not None:
            break
    assert said is not None, f"{step} was not met"
    old, new = reading.generations
    gets = reading.arguments[0] == "get"
    assert reading.copy in ((OLD if old else None, NEW) if gets else (None,)), step
    delivered = reading.copy == NEW if gets else bool(said)
    assert reading.marked() in ((new,) if delivered else (old, new)), step
    logged = reading.logged()
    if delivered:
        of_new = [line for line in logged if (line["version"] or {}).get("tag") == reading.tag]
        assert [line["outcome"] for line in of_new][:1] == ["allowed"], step
    result = reading.user(*reading.arguments)
    if reading.arguments[0] == "cat":
        assert result.out == NEW
    reading.check_ended()
