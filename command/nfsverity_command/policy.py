# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity policy check|explain`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import Exit, say
from .frame import Command, trust_options
from .output import name_fields, printable, write_json
from .parameters import TARGET

if TYPE_CHECKING:
    from nfsverity_client.gates import Gates
    from nfsverity_proto.policy import Rule, Selected
    from nfsverity_proto.url import Url

    from .belief import Belief

GATES = ("open", "read", "exec", "mmap")


@click.group()
def command() -> None:
    """Check the policy, and explain what it decides.

    Without a policy everything is enforced: nothing that does not verify passes, at any gate. A policy
    (`policy.toml` in the configuration directory, or --policy FILE) asks for more where you want, and lets
    files pass unverified where you want. docs/policy.md has examples.
    """


@command.command(
    "check",
    cls=Command,
    examples=[
        ("Your policy", "nfsverity policy check"),
        ("One that is not in use yet", "nfsverity policy check new.toml"),
    ],
    statuses={0: "the policy can be used", 1: "it has mistakes", 4: "it cannot be read"},
    fields={
        "command, status": '"policy check", and the exit status',
        "policy": "the file, or null where there is none: then everything is enforced",
        "policy_base64": "only where the path is not UTF-8",
        "rules": "how many there are, or null",
        "problems": "one object for each, with:",
        "problems.line": "in the file, or null",
        "problems.message": "what is wrong",
    },
)
@click.argument("file", type=click.Path(), required=False)
def check(file: str | None, as_json: bool) -> Exit:
    """Check a policy, FILE or your own: all that is wrong with it, at once."""
    from nfsverity_client.policy import PolicyError, load_policy, policy_path

    path = policy_path() if file is None else Path(file)
    problems: list[dict[str, Any]] = []
    rules = None
    try:
        user = load_policy(None if file is None else path)
        rules = None if user.rules.source is None else len(user.rules.rules)
    except PolicyError as error:
        problems = [{"line": problem.line, "message": problem.text} for problem in error.problems]
        for problem in error.problems:
            say(f"nfsverity: {path}: {problem}")
    there = bool(problems) or user.rules.source is not None
    status = Exit.NOT_VERIFIED if problems else Exit.OK
    if as_json:
        write_json(
            {
                "command": "policy check",
                "status": int(status),
                **(name_fields("policy", os.fsencode(path)) if there else {"policy": None}),
                "rules": rules,
                "problems": problems,
            }
        )
    elif not there:
        click.echo(printable(f"{path} is not there: everything is enforced"))
    elif not problems:
        click.echo(printable(f"{path}: {rules} {'rule' if rules == 1 else 'rules'}, nothing wrong"))
    return status


@command.command(
    "explain",
    cls=Command,
    examples=[
        ("All gates, for a served file", "nfsverity policy explain nfsv://host:12049/bin/tool"),
        ("One gate", "nfsverity policy explain --gate exec nfsv://host:12049/bin/tool"),
        ("For a file in a signed tree on this machine", "nfsverity policy explain /srv/data/bin/tool"),
    ],
    statuses={1: "the path is in no signed tree", 4: "the policy, or the trust store, cannot be used"},
    fields={
        "command, status": '"policy explain", 0',
        "file": "its URL",
        "path": "in the tree, which patterns are compared with",
        "path_base64": "only where that is not UTF-8",
        "policy": "the file, or null where there is none",
        "volumes": "that are expected there; null before the first use",
        "gates": "one object for each, with:",
        "gates.gate": "open, read, exec or mmap",
        "gates.rule, line": "of the rule that decides; line is null for the default",
        "gates.action": "enforce, audit or disable",
        "gates.unsigned": "refuse, audit or allow: what becomes of a file without a record",
        "gates.log": "off, on or required",
        "gates.requirements": "texts",
        "gates.skipped": "the rules before it: rule, line and why each does not fit",
    },
)
@click.argument("target", type=TARGET, metavar="URL|PATH")
@click.option("--gate", "gates", type=click.Choice(GATES), multiple=True, help="Only this gate. May be repeated.")
@click.option("--policy", "policy_file", type=click.Path(), metavar="FILE", help="Use this policy instead of your own.")
@trust_options
def explain(
    target: Url | Path,
    gates: tuple[str, ...],
    policy_file: str | None,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    as_json: bool,
) -> None:
    """Tell which rule decides about a file at each gate, and why those before it do not.

    Nothing is asked of a server: a rule is selected by what is known before.
    """
    from nfsverity_proto.policy import Asked, Gate

    from . import belief

    believed = belief.load(trust_files, volume, policy_file)
    url, path, volumes = _asked(target, believed)
    policy = believed.gates.policy
    found = [(gate, policy.select(Asked(Gate(gate), path, volumes, url))) for gate in gates or GATES]
    if as_json:
        write_json(
            {
                "command": "policy explain",
                "status": 0,
                "file": url,
                **name_fields("path", path),
                "policy": policy.source,
                "volumes": None if volumes is None else sorted(volume.hex() for volume in volumes),
                "gates": [_fields(gate, selected, believed.gates) for gate, selected in found],
            }
        )
        return
    click.echo(printable(f"{url}\n  by {policy.source or 'no policy: everything is enforced'}"))
    for gate, selected in found:
        click.echo(printable(_text(gate, selected, believed.gates)))


def _asked(target: Url | Path, believed: Belief) -> tuple[str, bytes, frozenset[bytes] | None]:
    """URL, path in the tree, and expected volumes."""
    if not isinstance(target, Path):
        url = str(target)
        return url, target.path, believed.expected(url, target.server)
    from nfsverity._local_place import file_url, locate

    root, below = locate(target)
    server = file_url(os.fsencode(root))
    url = file_url(os.path.join(os.fsencode(root), below)) if below else server
    return url, below, believed.expected(url, server)


def _fields(gate: str, selected: Selected, gates: Gates) -> dict[str, Any]:
    rule = selected.rule
    return {
        "gate": gate,
        "rule": rule.name,
        "line": rule.line,
        "action": str(rule.action),
        "unsigned": str(rule.unsigned),
        "log": str(gates.logs(rule)),
        "requirements": _requirements(rule, gate),
        "skipped": [{"rule": one.name, "line": one.line, "why": why} for one, why in selected.skipped],
    }


def _requirements(rule: Rule, gate: str) -> list[str]:
    """What a rule requires, in words."""
    from nfsverity_proto.hashes import hash_by_number

    from .output import scheme_name

    asks = rule.requirements
    if rule.action != "enforce":
        return []
    found: list[str] = []
    if asks.volumes is not None:
        found.append("volume " + " or ".join(sorted(volume.hex() for volume in asks.volumes)))
    if asks.hashes is not None:
        found.append("hash " + " or ".join(sorted(hash_by_number(number).name for number in asks.hashes)))
    if asks.schemes is not None:
        found.append("signed with " + " or ".join(sorted(map(scheme_name, asks.schemes))))
    if asks.unit_log2_min is not None:
        found.append(f"units of {1 << asks.unit_log2_min} bytes at least")
    if asks.unit_log2_max is not None:
        found.append(f"units of {1 << asks.unit_log2_max} bytes at most")
    if asks.any_of:
        found.append("signed by one of: " + "; ".join(name.text for name in asks.any_of))
    if asks.all_of:
        found.append("signed by each of: " + "; ".join(name.text for name in asks.all_of))
    if asks.signers > 1:
        found.append(f"{asks.signers} signers at least")
    if asks.generation:
        found.append(f"generation {asks.generation} at least")
    if asks.max_age is not None:
        found.append(f"issued at most {asks.max_age} seconds ago")
    if asks.executable or gate == "exec":
        found.append("signed as executable")
    return found


def _text(gate: str, selected: Selected, gates: Gates) -> str:
    fields = _fields(gate, selected, gates)
    what = {"enforce": "enforce", "audit": "audit: UNVERIFIED", "disable": "disable: UNVERIFIED"}[fields["action"]]
    lines = [f"{gate:<5} {what}, by {selected.rule if selected.rule.line is not None else 'default'}"]
    lines += [f"        requires {text}" for text in fields["requirements"]]
    if fields["action"] == "enforce" and fields["unsigned"] != "refuse":
        lines.append(f"        files without a record pass UNVERIFIED ({fields['unsigned']})")
    if fields["log"] != "off":
        lines.append(f"        logged ({fields['log']})")
    lines += [f"        not {one}: {why}" for one, why in selected.skipped]
    return "\n".join(lines)
