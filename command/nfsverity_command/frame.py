# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What all commands share: help with examples, exit statuses and JSON fields; options; commands loaded when named.

Start-up time is felt at each use, so nothing here or at the top of a command's module imports more than
click. What a command works with is imported when it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from .failure import ERROR_FIELDS, fit_advice
from .parameters import PRESENTATIONS, VOLUME

F = TypeVar("F", bound=Callable[..., Any])

STATUSES = {
    0: "all went well",
    1: "something did not verify: unsigned, stale, still updating, and proved not to be in its volume included",
    2: "the command line is not understood, or names what does not go together",
    3: "the server cannot be reached, or not be understood, or says no: it has no such file, or a directory there",
    4: "something on this machine: no such file, or a directory; no room, no permission; a policy that cannot be used",
    70: "a mistake in nfsverity itself",
    130: "interrupted",
}
OF_SOME = {
    5: "`diff`: there are differences; readers: a rule of the policy let something pass that did not verify",
    6: "`diff`: there is nothing by which to compare the two",
}
"""What some commands alone end with, for the help of all together."""
WEIGHTS = "Where several of 1 and 3 to 6 apply, it is the lowest."


class Command(click.Command):
    """A command whose help teaches it.

    `examples` are pairs of what it does and the line to type; `statuses` replaces texts of `STATUSES`;
    `fields` are the keys of the JSON that it prints, `a.b` for b in the object (or in each object) a.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        statuses: Mapping[int, str] | None = None,
        fields: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.statuses = {**STATUSES, **(statuses or {})}
        self.fields = dict(fields or {})
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, help="Print the traceback of an error.")
        )
        if self.fields:
            self.params.append(
                click.Option(["--json", "as_json"], is_flag=True, help="Report as JSON, errors too (see below).")
            )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            fit_advice(error, [parameter.name for parameter in self.params])
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for what, line in self.examples:
                    formatter.write_text(f"{what}:")
                    formatter.indent()
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
                    formatter.dedent()
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), text) for status, text in sorted(self.statuses.items())])
            formatter.write_text(WEIGHTS)
        if self.fields:
            with formatter.section("With --json, one object with"):
                formatter.write_dl(list(self.fields.items()))
            with formatter.section("And where the command fails as a whole, one with command, status, and error"):
                formatter.write_dl(list(ERROR_FIELDS.items()))
        super().format_epilog(ctx, formatter)


class Commands(click.Group):
    """Subcommands, each in a module of its own name that is imported when the command is named."""

    def __init__(self, *args: Any, texts: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.texts = dict(texts)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.texts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.texts:
            return None
        command: click.Command = importlib.import_module(f"nfsverity_command.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.texts.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), text) for status, text in sorted({**STATUSES, **OF_SOME}.items())])
            formatter.write_text(WEIGHTS)
        super().format_epilog(ctx, formatter)


def trust_options(function: F) -> F:
    """--trust and --volume: what is believed for this run."""
    function = click.option("--volume", type=VOLUME, metavar="ID", help="Expect this volume (32 hexadecimal digits).")(
        function
    )
    return click.option(
        "--trust",
        "trust_files",
        type=click.Path(),
        multiple=True,
        metavar="CERT",
        help="Believe this signer too, for this run. May be repeated.",
    )(function)


def policy_options(function: F) -> F:
    """--policy and --audit-log: what decides at the gates, and where that is written down."""
    function = click.option(
        "--audit-log",
        type=click.Path(),
        metavar="FILE",
        help="Write each decision to this log; what cannot be logged does not go on.",
    )(function)
    return click.option(
        "--policy", "policy_file", type=click.Path(), metavar="FILE", help="Use this policy instead of your own."
    )(function)


def timeout_option(function: F) -> F:
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="For one answer of the server.",
    )(function)


def wait_option(function: F) -> F:
    return click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="For files that are being updated, all together; 0: never wait.",
    )(function)


def presentation_option(function: F) -> F:
    return click.option(
        "--presentation",
        type=click.Choice(PRESENTATIONS),
        default="inline",
        show_default=True,
        help="How the hashes come: before the data, beside it, with it, or made anew from all of it.",
    )(function)
