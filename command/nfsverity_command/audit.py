# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity audit verify|summary`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .failure import Exit, say
from .frame import Command
from .output import count_text, name_fields, printable, write_json
from .parameters import HEAD

if TYPE_CHECKING:
    from nfsverity_client.audit_reading import Use

F = TypeVar("F", bound=Callable[..., Any])
FILES_FIELDS = {
    "files": "one object for each, in the order of their lines, with:",
    "files.file": "its path",
    "files.file_base64": "only where that is not UTF-8",
}


@click.group()
def command() -> None:
    """Check the audit log, and sum up what was used by it.

    A policy says what is logged (docs/policy.md), or --audit-log FILE. Without FILE these commands read the log
    that your policy names, and what it was rotated to (its name with "." or "-" and more, .gz too).
    """


def _files_argument(function: F) -> F:
    return click.argument("files", type=click.Path(), nargs=-1, metavar="[FILE]...")(function)


def _paths(files: tuple[str, ...]) -> list[Path]:
    from nfsverity_client.audit import user_log
    from nfsverity_client.audit_reading import with_rotated

    if files:
        return [Path(file) for file in files]
    log = user_log().path
    found = with_rotated(log) if log.parent.is_dir() else []
    if not found:
        raise FileNotFoundError(2, "there is no audit log", str(log))
    return found


@command.command(
    "verify",
    cls=Command,
    examples=[
        ("Your log, with all that it was rotated to", "nfsverity audit verify"),
        ("Where old files are thrown away", "nfsverity audit verify --first 5001"),
        ("A copy, by a head that was noted before", "nfsverity audit verify --head 120:HASH copy.jsonl"),
    ],
    statuses={
        0: "all of it is there, as it was written",
        1: "lines are missing, changed or put in; or it cannot be told",
        4: "a file, or the head, cannot be read",
    },
    fields={
        "command, status": '"audit verify", and the exit status',
        **FILES_FIELDS,
        "intact": "whether all is there, as it was written",
        "lines": "how many lines there are",
        "first": "number of the first line that is there, or null",
        "last, hash": "number and hash of the last one, or null: to be noted elsewhere, and given as --head later",
        "findings": "one object for each, with:",
        "findings.broken": "whether it is a cut or an edit; else the trace of a process that was killed",
        "findings.file, line": "where, or null",
        "findings.message": "what was found",
    },
)
@_files_argument
@click.option(
    "--head", type=HEAD, metavar="LINE:HASH", help="The last line, as it was noted; else as the state directory has it."
)
@click.option("--without-head", is_flag=True, help="Do not ask whether lines are missing at the end.")
@click.option(
    "--first", type=click.IntRange(min=1), default=1, show_default=True, metavar="LINE", help="Begin with this line."
)
def verify(
    files: tuple[str, ...], head: tuple[int, bytes] | None, without_head: bool, first: int, as_json: bool
) -> Exit:
    """Check that nothing in an audit log was cut, changed or put in.

    Give rotated files together with the current one, in any order.
    """
    from nfsverity_client.audit import Head
    from nfsverity_client.audit_reading import check

    given = None if head is None else Head(*head)
    result = check(_paths(files), head=given, needs_head=not without_head, first=first)
    status = Exit.OK if result.intact else Exit.NOT_VERIFIED
    last = result.last
    for finding in result.findings:
        where = "" if finding.file is None else f"{finding.file}: "
        line = "" if finding.line is None else f"line {finding.line} of the file: "
        say(f"nfsverity: {'' if finding.broken else 'note: '}{where}{line}{finding.text}")
    if as_json:
        write_json(
            {
                "command": "audit verify",
                "status": int(status),
                "files": [name_fields("file", os.fsencode(file)) for file in result.files],
                "intact": result.intact,
                "lines": result.lines,
                "first": result.first,
                "last": None if last is None else last.seq,
                "hash": None if last is None else last.hash.hex(),
                "findings": [
                    {"broken": each.broken, "file": each.file, "line": each.line, "message": each.text}
                    for each in result.findings
                ],
            }
        )
    elif last is not None:
        verdict = "intact" if result.intact else "NOT INTACT"
        click.echo(f"{count_text(result.lines, 'line')}, {verdict}; the last is {last.seq}:{last.hash.hex()}")
    return status


@command.command(
    "summary",
    cls=Command,
    examples=[
        ("Which versions of which files were used", "nfsverity audit summary"),
        ("By two logs together, for a program", "nfsverity audit summary --json one.jsonl two.jsonl"),
    ],
    statuses={4: "a file cannot be read"},
    fields={
        "command, status": '"audit summary", 0',
        "uses": "one object for each version of each file, with:",
        "uses.file": "its URL",
        "uses.version": "volume, path, generation, hash and tag, and the tag of the head or null (of a file in a"
        " volume: generation and head under which it was used last); null where none was verified",
        "uses.heads": "of a file in a volume: one object for each head that vouched for it, with:",
        "uses.heads.tag, generation": "which (the generation is a decimal string)",
        "uses.first, last": "when (RFC 3339)",
        "uses.count": "decisions about it",
        "uses.gates, verdicts, actions, outcomes": "how many of each",
        "events": "how many lines of each event there are",
        "other": "how many bytes are no line of an audit log",
    },
)
@_files_argument
def summary(files: tuple[str, ...], as_json: bool) -> None:
    """Tell which versions of which files were used, when first and last, how often, with which verdicts.

    The log is not checked here: that is `nfsverity audit verify`.
    """
    from nfsverity_client.audit_reading import summary

    found = summary(_paths(files))
    if as_json:
        write_json(
            {
                "command": "audit summary",
                "status": 0,
                "uses": [_fields(use) for use in found.uses],
                "events": found.events,
                "other": found.other,
            }
        )
        return
    for use in found.uses:
        click.echo(printable(_text(use)))
    events = ", ".join(f"{count} {event}" for event, count in sorted(found.events.items()) if event != "decision")
    click.echo(f"{count_text(found.events.get('decision', 0), 'decision')}{'; ' + events if events else ''}")
    if found.other:
        size = count_text(found.other, "byte is", "bytes are")
        say(f"nfsverity: warning: {size} no line of an audit log: `nfsverity audit verify` tells more")


def _fields(use: Use) -> dict[str, Any]:
    return {
        "file": use.file,
        "version": use.version,
        "heads": [{"tag": tag, "generation": generation} for tag, generation in use.heads.items()],
        "first": use.first,
        "last": use.last,
        "count": use.count,
        "gates": use.gates,
        "verdicts": use.verdicts,
        "actions": use.actions,
        "outcomes": use.outcomes,
    }


def _text(use: Use) -> str:
    version = use.version
    which = ["no version" if version is None else f"generation {version.get('generation')}, tag {version.get('tag')}"]
    if version is not None and use.heads:
        which = [f"tag {version.get('tag')}"]
        which += [f"by the head of generation {generation}, tag {tag}" for tag, generation in use.heads.items()]
    shown = "\n    ".join(which)
    counts = ", ".join(
        f"{count} {name}" for counted in (use.gates, use.verdicts, use.outcomes) for name, count in counted.items()
    )
    return f"{use.file}\n    {shown}\n    {use.first} to {use.last}: {counts}"
