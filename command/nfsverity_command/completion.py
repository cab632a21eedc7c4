# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity completion`."""

from __future__ import annotations

import click

from .failure import LocalProblem
from .frame import Command


@click.command(
    cls=Command,
    examples=[
        ("In this bash", 'eval "$(nfsverity completion bash)"'),
        ("In every bash", "nfsverity completion bash > ~/.local/share/bash-completion/completions/nfsverity"),
        ("In every zsh (in .zshrc, after compinit)", 'eval "$(nfsverity completion zsh)"'),
        ("In every fish", "nfsverity completion fish > ~/.config/fish/completions/nfsverity.fish"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what a shell needs to complete commands, options and names as you type them."""
    from click.shell_completion import get_completion_class

    from . import COMPLETION_VARIABLE, NAME
    from .cli import cli

    completer = get_completion_class(shell)
    if completer is None:
        raise LocalProblem(f"there is no completion for {shell}")
    click.echo(completer(cli, {}, NAME, COMPLETION_VARIABLE).source())
