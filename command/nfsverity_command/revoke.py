# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .expiry import end_of
from .failure import Exit, about, tell
from .frame import Command, timeout_option, trust_options
from .output import write_json
from .parameters import DAY, TARGET
from .signing import KEY_HELP, key_files, load_keys

if TYPE_CHECKING:
    from nfsverity_proto.statement import Item
    from nfsverity_proto.url import Url

    from .belief import Belief
    from .revocation_report import RevocationView


@click.command(
    cls=Command,
    examples=[
        (
            "A key that was stolen, by a second signer",
            "nfsverity revoke --key new.key --cert new.crt --revoke-key stolen.crt /srv/data",
        ),
        (
            "A version that should not have been signed",
            "nfsverity revoke --key me.key --cert me.crt --revoke-version /srv/data/bin/tool /srv/data",
        ),
        (
            "Once a day, so that nobody can withhold it for longer than a week",
            "nfsverity revoke --key me.key --cert me.crt --days 7 /srv/data",
        ),
        ("What is revoked", "nfsverity revoke --list nfsv://host:12049/"),
    ],
    statuses={
        0: "it is published; with --list: there is one, and it verifies",
        1: "with --list: there is none, or it does not verify; one that can be decoded is shown all the same",
        4: "it cannot be published: a signer is revoked, the list is full, no permission",
    },
    fields={
        "command, status": '"revoke", and the exit status',
        "tree": "its URL, or that of the server",
        "volume, label, generation": "of the revocation (the generation as a decimal string)",
        "label_base64": "only where the label is not UTF-8",
        "issued, not_after": "decimal strings, Unix seconds; not_after null: does not expire",
        "hash, tag": "of the revocation: name, hexadecimal",
        "items": "all that it revokes, one object for each, with:",
        "items.what": "key or version, or a number",
        "items.hash, digest": "of the public key (SubjectPublicKeyInfo), or of the statement: name, hexadecimal",
        "items.new": "whether the revocation before had it not (with --list: false)",
        "attestations": "one object for each, with:",
        "attestations.type": "signature, membership, or a number",
        "attestations.fingerprint, fingerprint_hash, scheme": "of a signature; else null",
        "attestations.subject": "of the signer's certificate; null where that is not known",
        "attestations.verified": "whether it verifies: with --list by what this user believes, else by the keys given",
        "attestations.error": "why not (as below), or null",
        "verified": "whether the revocation as a whole does",
        "error": "why not (as below), or null",
        "invalid": "files of the tree that do not verify any more: path (or path_base64)",
    },
)
@click.argument("target", type=TARGET, metavar="TREE|URL")
@click.option("--key", "keys", type=click.Path(), multiple=True, help=KEY_HELP)
@click.option("--cert", "certificates", type=click.Path(), multiple=True, help="Its certificate, in same order.")
@click.option(
    "--revoke-key",
    "revoked_keys",
    type=click.Path(),
    multiple=True,
    metavar="FILE",
    help="Revoke the key of this certificate, or this public key (PEM). Repeatable.",
)
@click.option(
    "--revoke-version",
    "versions",
    multiple=True,
    metavar="PATH|TAG",
    help="Revoke the present version of this file or whole volume, or the one with this tag. Repeatable.",
)
@click.option("--days", type=click.IntRange(1, 36500), metavar="N", help="It is renewed within so many days.")
@click.option("--not-after", type=DAY, metavar="DATE", help="It is renewed before this day is over, or this moment.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Replace a revocation though none of the keys has signed anything in the tree.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For another process that publishes the same tree; 0: never wait.",
)
@click.option("--list", "lists", is_flag=True, help="Show what is revoked, and change nothing.")
@trust_options
@timeout_option
def command(
    target: Url | Path,
    keys: tuple[str, ...],
    certificates: tuple[str, ...],
    revoked_keys: tuple[str, ...],
    versions: tuple[str, ...],
    days: int | None,
    not_after: int | None,
    take_over: bool,
    wait: float,
    lists: bool,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    timeout: float,
    as_json: bool,
) -> Exit:
    """Say that keys or versions of a published tree are good no longer.

    The list of a tree only grows: a new revocation says all that those before it said, and replaces it at once, for
    running servers too. Without anything new it is only signed anew. If it has an end (--days, --not-after), clients
    that know it verify nothing of the tree after that, until there is a new one. A key may revoke itself; a key that
    is revoked signs nothing any more. Files that only revoked keys have signed have to be signed again.

    Readers take a revocation by whom they believe. A key that has signed nothing in the tree is warned of, and does not
    replace the revocation of others by mistake: --take-over is for a publisher whose own key was stolen.
    """
    if lists:
        if keys or certificates or revoked_keys or versions or take_over or (days, not_after) != (None, None):
            raise click.UsageError("--list changes nothing: give it without what is to be revoked, and by whom")
        view = _listed(target, trust_files, volume, timeout)
    else:
        if not isinstance(target, Path):
            raise click.UsageError("a tree is revoked for where it is signed, not over the network")
        if trust_files or volume is not None:
            raise click.UsageError("--trust and --volume go with --list")
        view = _made(target, keys, certificates, revoked_keys, versions, days, not_after, take_over, wait)
    return _show(view, as_json, lists)


def _made(
    tree: Path,
    keys: tuple[str, ...],
    certificates: tuple[str, ...],
    revoked_keys: tuple[str, ...],
    versions: tuple[str, ...],
    days: int | None,
    not_after: int | None,
    take_over: bool,
    wait: float,
) -> RevocationView:
    from nfsverity_proto.statement import NO_END
    from nfsverity_publisher.revocation import revoke

    from .failure import say
    from .revocation_report import of_report

    if not keys:
        raise click.UsageError("a revocation is signed: give --key and --cert")
    end = end_of(days, not_after)
    signing = load_keys(keys, certificates)
    root, items = _root_of(tree), [_key_item(Path(file)) for file in revoked_keys]
    items += [_version_item(text, root) for text in versions]
    with about(str(root)):
        report = revoke(
            root,
            items,
            signing,
            not_after=end,
            private=key_files(keys),
            take_over=take_over,
            wait=wait,
            waiting=lambda: say(f"nfsverity: another process is publishing {root}: waiting"),
        )
    for stranger in report.unknown:
        say(
            f'nfsverity: warning: {root}: nothing here is signed by "{stranger.subject}": readers who do not believe it'
            " do not take this revocation"
        )
    if end == NO_END != report.end_before:
        say(f"nfsverity: {root}: the revocation before had an end, this one has none: now a later one can be withheld")
    return of_report(report, signing)


def _root_of(tree: Path) -> Path:
    from nfsverity._local_place import locate

    root, below = locate(tree)
    if below:
        raise click.BadParameter(f"{tree} is inside the published tree {root}: name that", param_hint="TREE")
    return root


def _key_item(file: Path) -> Item:
    """Of the one certificate in a file, or of the public key."""
    from cryptography.hazmat.primitives import serialization

    from nfsverity_client.trust_store import certificate_file
    from nfsverity_proto.certificate import parse_certificate
    from nfsverity_proto.hashes import SHA256
    from nfsverity_proto.revocation import key_item

    from .failure import LocalProblem

    with about(str(file)):
        if b"-----BEGIN PUBLIC KEY-----" not in file.read_bytes():
            return key_item(parse_certificate(certificate_file(file)).key_id(), SHA256)
        try:
            key = serialization.load_pem_public_key(file.read_bytes())
        except ValueError as error:
            raise LocalProblem(f"it is not a public key in PEM: {error}") from error
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return key_item(key.public_bytes(serialization.Encoding.DER, form), SHA256)


def _version_item(text: str, root: Path) -> Item:
    """Of a tag, in hexadecimal, behind the name of its hash where that is not SHA-256; or of a file's record."""
    import contextlib
    import re

    from nfsverity._local_place import locate
    from nfsverity_proto.hashes import hash_by_name
    from nfsverity_proto.record import decode_record
    from nfsverity_proto.revocation import version_item
    from nfsverity_proto.statement import Tag, decode_statement, tag_of
    from nfsverity_store.published import open_published
    from nfsverity_store.volume_view import VolumeView

    match = re.fullmatch(r"(?:([a-z0-9-]+):)?((?:[0-9a-f]{2}){32,64})", text)
    if match is not None:
        try:
            return version_item(Tag(hash_by_name(match[1] or "sha256").number, bytes.fromhex(match[2])))
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not a tag: {error}", param_hint="--revoke-version") from error
    with about(text):
        where, below = locate(Path(text))
    if where != root:
        raise click.BadParameter(f"{text} is not in the published tree {root}", param_hint="--revoke-version")
    _, index = open_published(root)
    with contextlib.closing(index):
        if isinstance(index, VolumeView) and not below:
            return version_item(index.tag)
        entry = index.by_path(below)
    if entry is None or entry.record is None:
        raise click.BadParameter(f"{text} has no record", param_hint="--revoke-version")
    statement = decode_record(entry.record).statement
    return version_item(tag_of(statement, decode_statement(statement).hash))


def _listed(target: Url | Path, trust_files: tuple[str, ...], volume: bytes | None, timeout: float) -> RevocationView:
    from . import belief

    believed = belief.load(trust_files, volume)
    if isinstance(target, Path):
        return _local(target, believed)
    from .network import revocation_of

    return revocation_of(target, believed, timeout)


def _local(tree: Path, believed: Belief) -> RevocationView:
    import contextlib

    from nfsverity._local_records import certificates_among
    from nfsverity_proto.errors import Unsigned
    from nfsverity_publisher.revocation import invalid_paths
    from nfsverity_store.published import open_published
    from nfsverity_store.revocation import PublishedRevocation

    from .revocation_report import judged, tree_url

    root = _root_of(tree)
    published = PublishedRevocation(root)
    head, index = open_published(root)
    with contextlib.closing(index):
        record, claim = published.record(head.volume), published.claim(head.volume)
        if record is None or claim is None:
            raise Unsigned("no revocation was published in this tree", where=str(root))
        known = [*published.certificates(), *index.certificates()]
        invalid = tuple(invalid_paths(index, claim.items))
    return judged(record, tree_url(root), believed, certificates_among(record, known), invalid)


def _show(view: RevocationView, as_json: bool, lists: bool) -> Exit:
    from .revocation_report import fields, text

    status = Exit.OK if view.report.error is None else Exit.NOT_VERIFIED
    if not lists:
        status = Exit.OK  # it is published, whatever becomes of it
    if as_json:
        write_json({"command": "revoke", "status": int(status), **fields(view)})
    else:
        click.echo(text(view))
    if view.report.error is not None:
        tell(view.report.error)
    return status
