# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity diff`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import ending
from .failure import Exit, about, error_fields, status_of, tell, weightiest
from .frame import Command, timeout_option, trust_options, wait_option
from .output import count_text, identity_fields, name_fields, shown, write_json
from .parameters import TARGET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nfsverity._diff import Place
    from nfsverity._difference import FileDifference
    from nfsverity_client.diff import Range
    from nfsverity_proto.url import Url
    from nfsverity_proto.verification import Verified

    from .belief import Belief

STATES = ("same", "changed", "mode", "added", "removed", "incomparable", "failed")
"""As in `nfsverity._difference`; a test holds both equal."""
_OF_VERSION = {
    "volume, label, generation": "of the record, or of the head of the volume",
    "label_base64": "only where the label is not UTF-8",
    "signers": "subject, fingerprint and scheme of each",
    "size": "bytes, as signed (decimal string); of a file, as root is",
    "root": "of its tree, in hexadecimal",
    "executable": "true or false; of a file",
    "target": "of a link, where it leads",
    "target_base64": "only where that is not UTF-8",
}


@click.command(
    cls=Command,
    examples=[
        ("Which bytes changed between two versions", "nfsverity diff nfsv://old:12049/disk nfsv://new:12049/disk"),
        ("The signed tree here, and what a server has", "nfsverity diff /srv/data nfsv://host:12049/"),
        ("The same, with the bytes of each file", "nfsverity diff --ranges /srv/data nfsv://host:12049/"),
        ("Only the exit status", "nfsverity diff --quiet nfsv://a:12049/f nfsv://b:12049/f"),
    ],
    statuses={
        0: "they are the same",
        1: "something did not verify: nothing is said about it",
        5: "they differ",
        6: "they cannot be compared by their trees, and nothing else differs",
    },
    fields={
        "command, status": '"diff", and the exit status',
        "a, b": "what was compared, as given",
        "a_base64, b_base64": "only where that is not UTF-8",
        "files": "one object for each file, link and directory, of two files for the pair, with:",
        "files.path": 'below A and B; "" where these are files',
        "files.type": "file, link or directory",
        "files.path_base64": "only where the path is not UTF-8",
        "files.state": ", ".join(STATES),
        "files.a, b": "the version, or null where there is none, with:",
        **{
            ", ".join(f"files.{side}.{name}" for side in "ab" for name in names.split(", ")): text
            for names, text in _OF_VERSION.items()
        },
        "files.a.signers.subject, files.a.signers.fingerprint, files.a.signers.scheme": "as said",
        "files.b.signers.subject, files.b.signers.fingerprint, files.b.signers.scheme": "as said",
        "files.ranges": "what differs, or null where it was not asked for or cannot be told, with:",
        "files.ranges.offset, length": "bytes (decimal strings)",
        "files.ranges.side": "both, or a or b: the one that has these bytes alone",
        "files.error": "why it could not be judged (as below), or null",
        ", ".join(STATES): "numbers of files, links and directories",
        "ranges": "their number",
        "bytes": "in all ranges (decimal string)",
        "hashes": "that servers were asked for (decimal string)",
    },
)
@click.argument("a", type=TARGET, metavar="A")
@click.argument("b", type=TARGET, metavar="B")
@click.option("--ranges", "with_ranges", is_flag=True, help="Of trees, also which bytes of each file.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing, and end at the first difference.")
@wait_option
@timeout_option
@trust_options
def command(
    a: Url | Path,
    b: Url | Path,
    with_ranges: bool,
    quiet: bool,
    wait: float,
    timeout: float,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    as_json: bool,
) -> Exit:
    """Say what differs between two versions of a file, or two trees: without transferring any of it.

    A and B are URLs, or paths in signed trees on this machine; links in a volume are followed. Both are verified, and
    then the trees of their hashes are compared from the top, only where they differ: to find one changed unit of a
    1 GiB file takes 48 hashes of each. A range is in whole units, of which some byte differs.

    One of them may be older than what was accepted before: that is no rollback here, and nothing is remembered. The
    report has both generations.

    Of a path, it is what was signed that is compared: `nfsverity verify` says whether the file is still that.
    Of two directories, what is in them is compared by name: it is added or removed, changed, or of the same content
    with another mode (executable or not). Of two volumes that is verified and complete, with links and directories;
    where one is a tree with a record for each file, files alone are compared, and its names are the server's word.
    Volumes are the same where their roots are, and else their lists of entries are compared.

    Versions that were signed with different hashes or unit sizes have no hashes in common. Then read both, which
    verifies them: `nfsverity get` A and B, and compare the copies; or have them signed alike.
    """
    from . import belief

    believed = belief.load(trust_files, volume)
    report = Report(quiet=quiet or as_json, keeps=as_json)
    ending.run(_run(a, b, believed, with_ranges, quiet, wait, timeout, report))
    if as_json:
        fields = {
            "command": "diff",
            "status": int(report.status),
            **_given("a", a),
            **_given("b", b),
            **report.fields(),
        }
        write_json(fields)
    elif not quiet and report.status is not Exit.OK:
        click.echo(report.summary())
    return report.status


def _given(key: str, target: Url | Path) -> dict[str, Any]:
    import os

    return name_fields(key, os.fsencode(target) if isinstance(target, Path) else str(target).encode())


async def _run(
    a: Url | Path,
    b: Url | Path,
    believed: Belief,
    with_ranges: bool,
    quiet: bool,
    wait: float,
    timeout: float,
    report: Report,
) -> None:
    from nfsverity._diff import ServedPlace, compare_trees
    from nfsverity._difference import State

    async with _place(a, believed, wait, timeout) as one, _place(b, believed, wait, timeout) as other:
        if isinstance(one, ServedPlace) and isinstance(other, ServedPlace):
            other.session.budget = one.session.budget  # of the command (fip-client-23)
        with about(str(a)):
            is_tree = await one.is_directory()
        with about(str(b)):
            if await other.is_directory() is not is_tree:
                raise click.UsageError("A and B are a file and a directory: name two files, or two directories")
        if not is_tree:
            await _compare_files(a, b, one, other, quiet, report)
        else:
            found = compare_trees(one, other, with_ranges=with_ranges, every=report.keeps)
            async with contextlib.aclosing(found):
                async for difference in found:
                    report.add(difference)
                    if quiet and difference.state is not State.SAME:
                        break
        report.hashes = sum(place.session.traffic.hashes for place in (one, other) if isinstance(place, ServedPlace))


@contextlib.asynccontextmanager
async def _place(target: Url | Path, believed: Belief, wait: float, timeout: float) -> AsyncIterator[Place]:
    from nfsverity._diff import LocalPlace, ServedPlace

    if isinstance(target, Path):
        from nfsverity._local import LocalTree
        from nfsverity._local_place import locate_file

        from .belief import announce

        root, below = locate_file(target)
        tree = LocalTree(root, believed.trust, believed.volumes, believed.bindings, announce, revoked=believed.revoked)
        with contextlib.closing(tree):
            yield LocalPlace(tree, tree.follow(below))
        return
    from .network import session_for

    async with session_for(target, believed, timeout, wait, remember=False) as session:
        yield ServedPlace(session, target.path)


async def _compare_files(a: Url | Path, b: Url | Path, one: Place, other: Place, quiet: bool, report: Report) -> None:
    from nfsverity._diff import ranges
    from nfsverity._difference import FileDifference, state_of

    with about(str(a)):
        version_a = await one.version(b"")
    with about(str(b)):
        version_b = await other.version(b"")
    found: list[Range] = []
    with about(f"{version_a.url} and {version_b.url}"):
        async with contextlib.aclosing(ranges(version_a, version_b)) as parts:
            async for part in parts:
                if report.keeps:
                    found.append(part)
                report.show(part)
                if quiet:
                    break
    state = state_of(version_a.verified, version_b.verified)
    report.add_file(FileDifference(b"", state, version_a.verified, version_b.verified, tuple(found)))


@dataclass(slots=True)
class Report:
    """What was found, told as it is found. Of files no more is kept than numbers, but for JSON."""

    quiet: bool
    keeps: bool
    files: list[FileDifference] = field(default_factory=list, repr=False)
    hashes: int = 0
    size: int = 0
    ranges: int = 0
    bytes: int = 0
    _states: dict[str, int] = field(default_factory=dict)
    _failures: set[Exit] = field(default_factory=set)
    _one: FileDifference | None = None
    """The only one, where two files are compared."""

    def add(self, difference: FileDifference) -> None:
        """One file of two trees."""
        if difference.error is not None:
            tell(difference.error)
            self._failures.add(status_of(difference.error))
        elif not self.quiet and difference.state != "same":
            click.echo(f"{difference.state:<13} {_name(difference)}")
        for part in difference.ranges or ():
            self.show(part, "    ")
        self._count(difference)

    def add_file(self, difference: FileDifference) -> None:
        """The only one, whose ranges were shown already."""
        self._one = replace(difference, ranges=None)
        self._count(difference)

    def _count(self, difference: FileDifference) -> None:
        if difference.is_file:
            self.size += max(_size(difference.a), _size(difference.b))
        self._states[difference.state] = self.count(difference.state) + 1
        if self.keeps:
            self.files.append(difference)

    def show(self, part: Range, indent: str = "") -> None:
        self.ranges += 1
        self.bytes += part.length
        if not self.quiet:
            what = "differ" if part.side == "both" else f"are only in {part.side.upper()}"
            click.echo(f"{indent}bytes {part.offset} to {part.stop - 1} {what}")

    def count(self, state: str) -> int:
        return self._states.get(state, 0)

    @property
    def status(self) -> Exit:
        found = set(self._failures)
        if any(self.count(state) for state in ("changed", "mode", "added", "removed")):
            found.add(Exit.DIFFERENT)
        elif self.count("incomparable"):
            found.add(Exit.INCOMPARABLE)
        return weightiest(found)

    def summary(self) -> str:
        texts = []
        if self._one is None:
            texts.append(", ".join(f"{self.count(state):,} {state}" for state in STATES if self.count(state)))
        elif self._one.state == "mode":
            texts.append("the content is the same, but only one of them is executable")
        if self.ranges:
            texts.append(f"{count_text(self.ranges, 'range')}, {self.bytes:,} bytes of {self.size:,}")
        if self.hashes:
            texts.append(f"{count_text(self.hashes, 'hash', 'hashes')} asked for")
        text = "; ".join(texts)
        if self._one is not None and self._one.a is not None and self._one.b is not None:
            text += f"\nA is generation {_generation(self._one.a)}, B is generation {_generation(self._one.b)}"
        return text

    def fields(self) -> dict[str, Any]:
        return {
            "files": [_fields(difference) for difference in self.files],
            **{state: self.count(state) for state in STATES},
            "ranges": self.ranges,
            "bytes": str(self.bytes),
            "hashes": str(self.hashes),
        }


def _generation(verified: Verified) -> int:
    return verified.file.when.generation


def _size(verified: Verified | None) -> int:
    return 0 if verified is None else verified.content.tree.size


def _name(difference: FileDifference) -> str:
    """A name for people: a directory's with "/", a link's with where it leads, and where it led before."""
    from nfsverity_proto.entry import EntryType

    name = shown(difference.path)
    if difference.type is EntryType.DIRECTORY:
        return name + "/"
    before, now = difference.targets
    if now is None:
        return name if before is None else f"{name} -> {shown(before)}"
    return f"{name} -> {shown(now)}" + ("" if before is None else f" (was {shown(before)})")


def _fields(difference: FileDifference) -> dict[str, Any]:
    return {
        **name_fields("path", difference.path),
        "type": difference.type.name.lower(),
        "state": str(difference.state),
        "a": _version_fields(difference, difference.a, difference.targets[0]),
        "b": _version_fields(difference, difference.b, difference.targets[1]),
        "ranges": None
        if difference.ranges is None
        else [
            {"offset": str(part.offset), "length": str(part.length), "side": str(part.side)}
            for part in difference.ranges
        ],
        "error": None if difference.error is None else error_fields(difference.error),
    }


def _version_fields(
    difference: FileDifference, verified: Verified | None, target: bytes | None
) -> dict[str, Any] | None:
    if verified is None:
        return None
    is_file = difference.is_file
    return {
        **identity_fields(verified),
        "size": str(verified.content.tree.size) if is_file else None,
        "root": verified.content.tree.root.hex() if is_file else None,
        "executable": verified.file.executable if is_file else None,
        **({"target": None} if target is None else name_fields("target", target)),
    }
