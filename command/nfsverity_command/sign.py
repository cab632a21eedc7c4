# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity sign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .expiry import end_of
from .failure import Exit, error_fields, say, status_of, tell
from .frame import Command
from .output import count_text, name_fields, path_lines, seconds_text, shown, write_json
from .parameters import DAY, HASHES, NEW_VOLUME, RANGE, UNIT_SIZE
from .signing import KEY_HELP, key_files, load_keys

if TYPE_CHECKING:
    from nfsverity_publisher.keys import SigningKey
    from nfsverity_publisher.transaction import Options, Report


@click.command(
    cls=Command,
    examples=[
        ("Sign a tree; later again, for what has changed", "nfsverity sign --key me.key --cert me.crt /srv/data"),
        (
            "Once a day, so that nobody can withhold what is newer for longer than a week",
            "nfsverity sign --key me.key --cert me.crt --renew --days 7 /srv/data",
        ),
        (
            "With two signers, one of them post-quantum",
            "nfsverity sign --key a.key --cert a.crt --key b.key --cert b.crt /srv/data",
        ),
        (
            "A file that is read in small pieces, for 90 days",
            "nfsverity sign --key me.key --cert me.crt --unit-size 4K --days 90 table.db",
        ),
        (
            "A large file that grew, without reading again what it held before",
            "nfsverity sign --key me.key --cert me.crt --appended events.log",
        ),
        (
            "The same after two of its parts were written anew",
            "nfsverity sign --key me.key --cert me.crt --changed 1G:64K --changed 5G:4K disk.img",
        ),
        (
            "New content for a file that others are reading, and its record right after it",
            "nfsverity sign --key me.key --cert me.crt --replace-with table.new table.db",
        ),
    ],
    statuses={4: "a tree cannot be published, or a file in it cannot be signed (the others are)"},
    fields={
        "command, status": '"sign", and the exit status',
        "trees": "one object for each published tree, with:",
        "trees.root": "the folder that holds .nfsverity",
        "trees.root_base64": "only where that is not UTF-8",
        "trees.volume, label, generation": "of this publication (the generation as a decimal string)",
        "trees.label_base64": "only where the label is not UTF-8",
        "trees.form": "volume, or records for one record of each file; null where the tree was not published",
        "trees.entries, links, directories": "of a volume: numbers of all entries, and of these",
        "trees.signed, unchanged, removed": "numbers of files",
        "trees.bytes_hashed": "decimal string",
        "trees.skipped": "special files, and links where each file has its record: path (or path_base64) and reason",
        "trees.failed": "files without a new record: path (or path_base64) and reason",
        "trees.revoked": "files that the tree's revocation takes back and that are as before: path (or path_base64)",
        "trees.changed": "files whose content is another than the last time, with:",
        "trees.changed.path": "or path null and path_base64",
        "trees.changed.path_base64": "only where that is not UTF-8",
        "trees.changed.size_before, size": "decimal strings",
        "trees.changed.ranges": "the whole units that differ, by the kept trees; null where there is none before",
        "trees.changed.ranges.offset, length": "decimal strings",
        "trees.whole": "files hashed in whole despite --changed or --appended: path (or path_base64) and reason",
        "trees.error": "why the tree was not published, else null",
    },
)
@click.argument("paths", type=click.Path(), nargs=-1, required=True, metavar="PATH...")
@click.option("--key", "keys", type=click.Path(), multiple=True, required=True, help=KEY_HELP)
@click.option(
    "--cert", "certificates", type=click.Path(), multiple=True, required=True, help="Its certificate, in same order."
)
@click.option(
    "--unit-size",
    type=UNIT_SIZE,
    metavar="BYTES",
    help="What is verified at once: a power of two, 4K to 16M.  [default: 64K, or as it was]",
)
@click.option(
    "--hash", "hash_name", type=click.Choice(HASHES), help="The hash algorithm.  [default: sha256, or as it was]"
)
@click.option(
    "--volume-id",
    type=NEW_VOLUME,
    metavar="ID|new",
    help="Of the tree, or a random one.  [default: random, then as it was]",
)
@click.option("--per-file", is_flag=True, help="A record for each file, without links and directories.")
@click.option(
    "--as-volume", is_flag=True, help="One signature for all.  [default, but where the tree has a record for each file]"
)
@click.option("--renew", is_flag=True, help="Sign the head of a volume again with new times, and look at no file.")
@click.option("--rehash", is_flag=True, help="Read also what seems unchanged by size, times and inode.")
@click.option(
    "--changed",
    type=RANGE,
    multiple=True,
    metavar="OFFSET:LENGTH",
    help="Only these bytes of the file changed, and its size: hash no others. Repeatable; OFFSET: is to the end.",
)
@click.option("--appended", is_flag=True, help="Nothing changed but that the file grew: hash only what is new.")
@click.option(
    "--replace-with",
    type=click.Path(),
    metavar="FILE",
    help="Move FILE to PATH when its record is ready: both come in place at the end, one right after the other.",
)
@click.option("--show-changes", is_flag=True, help="Name the ranges of each file that changed, by the kept trees.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For another process that signs the same tree; 0: never wait.",
)
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Processes that hash.  [default: all CPUs]")
@click.option("--days", type=click.IntRange(1, 36500), metavar="N", help="What is signed expires after so many days.")
@click.option("--not-after", type=DAY, metavar="DATE", help="It expires after this day, or moment (RFC 3339).")
def command(
    paths: tuple[str, ...],
    keys: tuple[str, ...],
    certificates: tuple[str, ...],
    unit_size: int | None,
    hash_name: str | None,
    volume_id: bytes | None,
    per_file: bool,
    as_volume: bool,
    renew: bool,
    rehash: bool,
    changed: tuple[tuple[int, int | None], ...],
    appended: bool,
    replace_with: str | None,
    show_changes: bool,
    wait: float,
    jobs: int | None,
    days: int | None,
    not_after: int | None,
    as_json: bool,
) -> int:
    """Sign files and trees of files, and publish what was signed.

    A tree becomes a volume: one signature is for all of its files, links and directories, and says too that there is
    nothing else. The metadata goes to .nfsverity at the root of the tree (for a lone file: of its folder). A path
    inside a published tree belongs to that tree: all else of it stays as it was signed, even what is gone. What is
    published is replaced at once: readers see all of the old or all of the new. What has not changed is not read
    again. Special files are named, not signed.

    With --per-file, and for a lone file in a folder where nothing is signed, each file has a record of its own. A tree
    keeps its form until the other one is asked for. Readers follow it from records to a volume. For the way back it
    needs another volume ID (--volume-id new): readers that have seen the head of a volume refuse other records of it,
    and must be told of the new ID as of a new tree.

    --renew signs what the metadata has, after a check that one of the keys has signed that. It cannot tell whether
    somebody has put back an older state: use it where the tree is signed, not on a server that is not trusted.

    Which volume a tree is, its metadata says. Who else can write there could put what the same key has signed of
    another tree, and have this one signed as that: there, give --volume-id each time.

    A file is best not written where it is read: --replace-with takes new content from beside it, by moving the file
    there, with its mode and owner. If this is killed
    between the two last steps, PATH has the new content, and signing it once more completes it.

    --changed and --appended are your word that the rest of the file is as it was signed. All else is taken over from
    the kept tree, which is checked against the record that your key signed; of the content, only the ends of what
    is taken over are looked at. What shows to be otherwise has the file hashed in whole. A wrong word that does not
    show gives a record of what the file does not hold: readers get `mismatch` there until it is signed again, with
    --rehash.
    """
    from nfsverity_proto.hashes import hash_by_name
    from nfsverity_publisher.plan import plan
    from nfsverity_publisher.transaction import Form, Options

    if per_file and as_volume:
        raise click.UsageError("--per-file and --as-volume are two forms: give one of them")
    if renew and (
        unit_size or hash_name or volume_id or per_file or rehash or changed or appended or replace_with or show_changes
    ):
        raise click.UsageError("--renew looks at no file: it goes with --days or --not-after")
    if (changed or appended) and rehash:
        raise click.UsageError("--rehash reads all of it, which --changed and --appended are there to spare")
    if (changed or appended or replace_with) and (len(paths) != 1 or Path(paths[0]).is_dir()):
        raise click.UsageError("--changed, --appended and --replace-with are about exactly one file")
    end = end_of(days, not_after)
    signing_keys = load_keys(keys, certificates)
    options = Options(
        unit_log2=unit_size,
        hash=None if hash_name is None else hash_by_name(hash_name).number,
        volume=volume_id,
        not_after=end,
        rehash=rehash,
        changed=changed,
        appended=appended,
        wait=wait,
        replacement=None if replace_with is None else Path(replace_with),
        jobs=jobs or _processors(),
        form=Form.RECORDS if per_file else Form.VOLUME if as_volume else None,
    )
    status, trees = Exit.OK, []
    for root, below in plan([Path(path) for path in paths], new=replace_with is not None).items():
        private = key_files(keys)
        if renew and below != [b""]:
            raise click.UsageError(f"--renew is about all of a volume: give {root}")
        tree_status, tree = _publish(root, below, signing_keys, options, private, as_json, show_changes, renew)
        status = max(status, tree_status)
        trees.append(tree)
    if as_json:
        write_json({"command": "sign", "status": int(status), "trees": trees})
    return status


def _processors() -> int:
    """Those that this process may use."""
    import os

    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _publish(
    root: Path,
    below: list[bytes],
    keys: list[SigningKey],
    options: Options,
    private: list[Path],
    as_json: bool,
    show_changes: bool,
    renews: bool,
) -> tuple[Exit, dict[str, Any]]:
    """Publish one tree, and say what came of it."""
    import os

    from nfsverity_proto.errors import NfsVerityError
    from nfsverity_publisher.form import publish
    from nfsverity_publisher.revocation import revoked_paths
    from nfsverity_publisher.transaction import Report
    from nfsverity_publisher.volume import renew

    from .progress import meter

    def waiting() -> None:
        say(f"nfsverity: {root}: another process is signing it: waiting up to {options.wait:g} s")

    only = root / os.fsdecode(below[0]) if len(below) == 1 else root
    try:
        with meter(f"signing {shown(os.fsencode(only.name))}", _size(options.replacement or only)) as shows:
            if renews:
                report = renew(root, keys, options, private, waiting)
            else:
                report = publish(root, below, keys, options, lambda _, count: shows.add(count), private, waiting)
        revoked = revoked_paths(root)
    except (NfsVerityError, OSError) as error:
        error.add_note(str(root))
        tell(error)
        return status_of(error), {**_fields(Report(root), []), "form": None, "error": error_fields(error)}
    if report.ended_before is not None:
        say(
            f"nfsverity: {root}: before, it would have expired at {seconds_text(report.ended_before)}; now it does not"
            " expire at all: sign with --days or --not-after if readers are still to notice when it is withheld"
        )
    for path, reason in report.whole:
        say(f"nfsverity: {os.fsdecode(os.path.join(os.fsencode(root), path))}: hashed in whole: {reason}")
    for path, reason in report.failed:
        say(f"nfsverity: {os.fsdecode(os.path.join(os.fsencode(root), path))}: not signed: {reason}")
    if not as_json:
        click.echo(_text(report, revoked, show_changes))
    return Exit.LOCAL if report.failed else Exit.OK, _fields(report, revoked)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _form_lines(report: Report) -> list[str]:
    from nfsverity_publisher.transaction import Form

    if report.form is Form.RECORDS:
        return ["form        a record for each file (a volume has one signature for all: --as-volume)"]
    links = count_text(report.links, "link")
    directories = count_text(report.directories, "directory", "directories")
    files = count_text(report.entries - report.links - report.directories, "file")
    return [f"form        volume of {files}, {links}, {directories}"]


def _text(report: Report, revoked: list[bytes], show_changes: bool) -> str:
    import os

    lines = [
        f"tree        {shown(os.fsencode(report.root))}",
        f'volume      {report.volume.hex()} "{shown(report.label)}"',
        f"generation  {report.generation}",
        *_form_lines(report),
        f"signed      {count_text(report.signed, 'file')} ({report.bytes_hashed:,} bytes hashed)",
        f"unchanged   {count_text(report.unchanged, 'file')}",
        f"removed     {count_text(report.removed, 'file')}",
    ]
    if report.skipped:
        lines.append(f"skipped     {len(report.skipped):,}, which cannot be signed:")
        lines += [f"            {shown(path)} ({reason})" for path, reason in report.skipped]
    if report.failed:
        lines.append(f"failed      {count_text(len(report.failed), 'file')}, without a new record:")
        lines += [f"            {shown(path)} ({reason})" for path, reason in report.failed]
    if revoked:
        files = count_text(len(revoked), "file was taken back and is", "files were taken back and are")
        lines.append(f"revoked     {files} as before: readers refuse that, until it is other content or removed:")
        lines += [f"            {line}" for line in path_lines(revoked)]
    if show_changes:
        lines.append(f"changed     {count_text(len(report.changes), 'file')}:")
        for change in report.changes:
            size = (
                f"{change.size_before:,} to {change.size:,}"
                if change.size != change.size_before
                else f"{change.size:,}"
            )
            lines.append(f"            {shown(change.path)} ({size} bytes)")
            if change.ranges is None:
                lines.append("              no kept tree to compare with")
            lines += [f"              {offset}:{length}" for offset, length in change.ranges or ()]
    return "\n".join(lines)


def _fields(report: Report, revoked: list[bytes]) -> dict[str, Any]:
    import os

    return {
        **name_fields("root", os.fsencode(report.root)),
        "volume": report.volume.hex() or None,
        **name_fields("label", report.label),
        "generation": str(report.generation),
        "form": report.form.value,
        "entries": report.entries,
        "links": report.links,
        "directories": report.directories,
        "signed": report.signed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "bytes_hashed": str(report.bytes_hashed),
        "skipped": [{**name_fields("path", path), "reason": reason} for path, reason in report.skipped],
        "failed": [{**name_fields("path", path), "reason": reason} for path, reason in report.failed],
        "revoked": [name_fields("path", path) for path in revoked],
        "changed": [
            {
                **name_fields("path", change.path),
                "size_before": str(change.size_before),
                "size": str(change.size),
                "ranges": None
                if change.ranges is None
                else [{"offset": str(offset), "length": str(length)} for offset, length in change.ranges],
            }
            for change in report.changes
        ],
        "whole": [{**name_fields("path", path), "reason": reason} for path, reason in report.whole],
        "error": None,
    }
