# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity trust reset|revoke|unrevoke`: what was accepted, taken back by the user."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from .failure import LocalProblem, say
from .frame import Command
from .output import count_text, name_fields, printable, seconds_text, shown, write_json
from .parameters import TARGET, VOLUME

if TYPE_CHECKING:
    from nfsverity_client.marks import Kept, MarkStore
    from nfsverity_client.revocations import ListedItem
    from nfsverity_proto.statement import Item
    from nfsverity_proto.url import Url

SHOWN = 20
"""Marks that people are shown; JSON has all."""
MARK_FIELDS = {
    "kind": "volume for the mark of a head, which is for all files of a volume; else file",
    "volume, path": "what it is of; the path is empty for a volume",
    "path_base64": "only where the path is not UTF-8",
    "generation, tag": "the version that was accepted: a decimal string, and hexadecimal",
    "made": "when (RFC 3339)",
    "signer": "SHA-256 of the signer's public key",
}
ITEM_FIELDS = {
    "item": "what is revoked: key:HASH:DIGEST or version:HASH:DIGEST",
    "note": "for people, or null",
    "since": "when (RFC 3339)",
}


@click.command(
    cls=Command,
    examples=[
        ("The publisher went back to an older version of a whole volume", "nfsverity trust reset nfsv://host:12049/"),
        ("To one of a file that has a record of its own", "nfsverity trust reset nfsv://host:12049/etc/motd"),
        ("A whole tree on this machine was restored from a backup", "nfsverity trust reset /srv/data"),
        ("Without a question", "nfsverity trust reset --yes nfsv://host:12049/etc"),
        ("Somebody with a stolen key revoked what is good", "nfsverity trust reset --revocations nfsv://host:12049/"),
        ("This machine's clock was far ahead", "nfsverity trust reset --clock"),
    ],
    statuses={4: "not confirmed, or no volume is known there, or the state cannot be read or written"},
    fields={
        "command, status": '"trust reset", 0',
        "marks": "those that were dropped, one object for each, with:",
        **{", ".join(f"marks.{name}" for name in names.split(", ")): text for names, text in MARK_FIELDS.items()},
        "revocations": "items that were dropped, one object for each, with:",
        **{f"revocations.{name}": text for name, text in ITEM_FIELDS.items()},
        "clock": "true if the time is judged by the clock alone again",
    },
)
@click.argument("targets", type=TARGET, nargs=-1, metavar="URL|PATH...")
@click.option("--volume", type=VOLUME, metavar="ID", help="Of this volume, instead of the one expected there.")
@click.option("--revocations", is_flag=True, help="What revocations of the volume said that were accepted, instead.")
@click.option("--clock", is_flag=True, help="The latest time of issue that was accepted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(
    targets: tuple[Url | Path, ...],
    volume: bytes | None,
    revocations: bool,
    clock: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Accept older versions again: drop the mark of a volume, or those of files at and below a path.

    A mark is the highest version that was accepted here; what is older, or another of the same generation, is
    refused. The files of a volume have one mark together, that of its head: name the root for it. Only drop a mark if
    you know from the publisher that the older version is meant. What is to be dropped is shown first, and put down in
    the audit log.
    """
    from nfsverity_client.audit import local_event
    from nfsverity_client.audit import name_fields as event_name
    from nfsverity_client.marks import MarkStore
    from nfsverity_client.revocations import RevocationStore
    from nfsverity_proto.statement import Kind

    from .belief import user_state

    if not targets and not clock:
        raise click.UsageError("name a URL or a path, or --clock")
    state = user_state()
    marks, known = MarkStore(state), RevocationStore(state)
    found: dict[Any, Kept] = {}
    items: list[dict[str, Any]] = []
    volumes: list[bytes] = []
    for target in targets:
        root, path, of_volumes = _place(target, volume)
        for of_volume in of_volumes:
            if revocations:
                volumes.append(of_volume)
                items += [_item_fields(item, None, since) for item, since in known.of_volume(of_volume)]
            else:
                if path:
                    _check_no_head(marks, of_volume, root, path)
                marked = marks.find(volume=of_volume, below=path)
                found |= {kept.of: kept for kept in marked if kept.of.kind is not Kind.REVOCATION}
    _show(list(found.values()), items, clock)
    if found or volumes or clock:
        _confirm(yes)
    for kept in found.values():
        local_event(
            "trust-reset",
            kind=kept.of.kind.name.lower(),
            volume=kept.of.volume.hex(),
            **event_name("path", kept.of.path),
            generation=str(kept.mark.generation),
            tag=str(kept.mark.tag),
        )
    for of_volume in volumes:
        local_event("trust-reset-revocations", volume=of_volume.hex())
        known.drop(of_volume)
    if clock:
        local_event("trust-reset-clock", latest=str(marks.latest()))
        marks.forget_time()
    gone = marks.drop(found.values()) if found else 0
    if as_json:
        write_json(
            {
                "command": "trust reset",
                "status": 0,
                "marks": [mark_fields(kept) for kept in found.values()],
                "revocations": items,
                "clock": clock,
            }
        )
    elif found:
        click.echo(f"{count_text(gone, 'mark')} dropped: the next version that verifies is accepted, whichever it is")


def _check_no_head(marks: MarkStore, volume: bytes, root: str, path: bytes) -> None:
    """Raises `LocalProblem` where the head has the mark of the file at `path`, and of all others."""
    from nfsverity_client.marks import reset_command

    head = marks.heads().get(volume)
    if head is not None:
        raise LocalProblem(
            f"{shown(path)} has no mark of its own: it is in volume {volume.hex()}, whose head, of generation"
            f" {head.generation}, is the mark of all its files. `{reset_command(root)}` drops that"
        )


def _place(target: Url | Path, volume: bytes | None) -> tuple[str, bytes, list[bytes]]:
    """URL of the root, path and volumes that a target stands for."""
    from nfsverity_proto.url import Url

    from . import belief

    believed = belief.load((), volume)
    if isinstance(target, Url):
        url, root, path = str(target), target.server, target.path
    else:
        from nfsverity._local_place import file_url, locate

        base, path = locate(target)
        root = file_url(bytes(base))
        url = file_url(bytes(base / target.resolve()))
    volumes = believed.expected(url, root)
    if volumes is None:
        raise LocalProblem(f"{url}: no volume is expected there yet, so there are no marks (or name it with --volume)")
    return root, path, sorted(volumes)


def _show(found: list[Kept], items: list[dict[str, Any]], clock: bool) -> None:
    for kept in found[:SHOWN]:
        say(
            f"{shown(kept.of.path) or 'all files'}  generation {kept.mark.generation},"
            f" accepted {seconds_text(kept.made)}, volume {kept.of.volume.hex()}"
        )
    if len(found) > SHOWN:
        say(f"and {count_text(len(found) - SHOWN, 'more mark')} (--json has all)")
    for item in items:
        say(f"{item['item']}  revoked since {item['since']}")
    if not found and not items and not clock:
        say("there is nothing to drop")


def _confirm(yes: bool) -> None:
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise LocalProblem("nothing was dropped: say --yes, or confirm it at a terminal")
    if not click.confirm("Drop this?", err=True):
        raise LocalProblem("nothing was dropped")


@click.command(
    cls=Command,
    examples=[
        ("A signer's key, by its certificate", "nfsverity trust revoke stolen.crt"),
        (
            "A version, by the tag that `nfsverity show` prints",
            "nfsverity trust revoke version:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        ),
    ],
    statuses={4: "a file holds no certificate that can be used; or it, or the list, cannot be read or written"},
    fields={
        "command, status": '"trust revoke", 0',
        "revoked": "what is revoked now and was not before, one object for each, with:",
        **{f"revoked.{name}": text for name, text in ITEM_FIELDS.items()},
    },
)
@click.argument("names", nargs=-1, required=True, metavar="CERT|ITEM...")
def revoke(names: tuple[str, ...], as_json: bool) -> None:
    """Believe a key, or accept a version, no longer: for all volumes, whoever says otherwise.

    CERT is the file of a certificate: its public key is meant, whichever certificate names it. ITEM is
    key:DIGEST, the SHA-256 of a public key (DER), or version:DIGEST, the tag of a version; key:HASH:DIGEST and
    version:HASH:DIGEST where the hash is another. Publishers revoke for all their readers with `nfsverity revoke`.
    """
    from nfsverity_client.audit import local_event
    from nfsverity_client.revocations import RevokedList, item_text

    pairs = [_named_item(name) for name in names]
    for item, note in pairs:
        local_event("trust-revoke", item=item_text(item), note=note)
    _report("trust revoke", RevokedList().add(pairs), "revoked", "is revoked", as_json)


def _own_items(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from nfsverity_client.revocations import RevokedList, item_text

    return [
        CompletionItem(text, help=listed.note)
        for listed in RevokedList().listed()
        if (text := item_text(listed.item)).startswith(incomplete)
    ]


@click.command(
    cls=Command,
    examples=[
        ("A key that was found again", "nfsverity trust unrevoke found.crt"),
        (
            "A version",
            "nfsverity trust unrevoke version:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        ),
    ],
    statuses={4: "it is not in the list, or that cannot be read or written"},
    fields={
        "command, status": '"trust unrevoke", 0',
        "unrevoked": "what was taken from the list, one object for each, with:",
        **{f"unrevoked.{name}": text for name, text in ITEM_FIELDS.items()},
    },
)
@click.argument("names", nargs=-1, required=True, metavar="CERT|ITEM...", shell_complete=_own_items)
def unrevoke(names: tuple[str, ...], as_json: bool) -> None:
    """Take keys or versions from your own list of what is revoked.

    What a publisher revoked stays revoked (`nfsverity trust reset --revocations` if a thief did it).
    """
    from nfsverity_client.audit import local_event
    from nfsverity_client.revocations import RevokedList, item_text

    items = [_named_item(name)[0] for name in names]
    for item in items:
        local_event("trust-unrevoke", item=item_text(item))
    _report("trust unrevoke", RevokedList().remove(items), "unrevoked", "is not revoked by you any more", as_json)


def _named_item(name: str) -> tuple[Item, str]:
    """What an argument names, and what to note about it."""
    from nfsverity_client.revocations import parse_item
    from nfsverity_client.trust_store import certificate_file
    from nfsverity_proto.certificate import parse_certificate
    from nfsverity_proto.hashes import SHA256
    from nfsverity_proto.revocation import key_item

    if name.startswith(("key:", "version:")):
        try:
            return parse_item(name), ""
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="ITEM") from error
    certificate = parse_certificate(certificate_file(Path(name)))
    return key_item(certificate.spki, SHA256), certificate.subject


def _report(command: str, listed: list[ListedItem], key: str, text: str, as_json: bool) -> None:
    from nfsverity_client.revocations import item_text

    if as_json:
        write_json({"command": command, "status": 0, key: [listed_fields(each) for each in listed]})
        return
    for each in listed:
        note = f' of "{each.note}"' if each.note else ""
        click.echo(printable(f"{item_text(each.item)}{note} {text}"))


def listed_fields(listed: ListedItem) -> dict[str, Any]:
    from nfsverity_client.revocations import item_text

    return {"item": item_text(listed.item), "note": listed.note or None, "since": listed.added}


def _item_fields(item: Item, note: str | None, since: int) -> dict[str, Any]:
    from nfsverity_client.revocations import item_text

    return {"item": item_text(item), "note": note, "since": seconds_text(since)}


def mark_fields(kept: Kept) -> dict[str, Any]:
    """A mark as `--json` has it."""
    import hashlib

    return {
        "kind": kept.of.kind.name.lower(),
        "volume": kept.of.volume.hex(),
        **name_fields("path", kept.of.path),
        "generation": str(kept.mark.generation),
        "tag": str(kept.mark.tag),
        "made": seconds_text(kept.made),
        "signer": hashlib.sha256(kept.of.key).hexdigest(),
    }
