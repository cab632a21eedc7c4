# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity completion`, in the shells themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

BASH = """
eval "$(nfsverity completion bash)"
COMP_WORDS=({words})
COMP_CWORD=$(({count} - 1))
COMPREPLY=()
_nfsverity_completion nfsverity
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def in_bash(nfsverity: Any, *words: str) -> list[str]:
    """What bash offers for the last word."""
    script = BASH.format(words=" ".join(f"'{word}'" for word in words), count=len(words))
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=nfsverity.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.tool("bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["nfsverity", "s"], ["sign", "serve", "show"]),
        (["nfsverity", "trust", ""], ["add", "list", "remove", "reset", "revoke", "unrevoke"]),
        (["nfsverity", "sign", "--ha"], ["--hash"]),
        (["nfsverity", "sign", "--hash", "sha3"], ["sha384", "sha3-256"]),
        (["nfsverity", "keygen", "--algorithm", "ml"], ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"]),
        (["nfsverity", "cat", "--presentation", ""], ["ahead", "on-demand", "inline", "reconstruct"]),
        (["nfsverity", "completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_bash(nfsverity: Any, words: list[str], offered: list[str]) -> None:
    assert sorted(in_bash(nfsverity, *words)) == sorted(offered)


@pytest.mark.tool("bash")
def test_bash_offers_what_can_be_removed(nfsverity: Any, alice: Any) -> None:
    id = nfsverity.json("trust", "add", str(alice.certificate))["id"]
    assert in_bash(nfsverity, "nfsverity", "trust", "remove", "") == [id]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_one_of_the_shell(nfsverity: Any, tmp_path: Path, shell: str) -> None:
    text = nfsverity("completion", shell).text
    assert "_NFSVERITY_COMPLETE" in text
    assert {"zsh": "#compdef nfsverity", "fish": "complete --no-files --command nfsverity"}[shell] in text


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_the_other_shells_are_told(nfsverity: Any, shell: str) -> None:
    nfsverity.environment |= {
        "_NFSVERITY_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "nfsverity s",
        "COMP_CWORD": "1",
    }
    if shell == "fish":
        nfsverity.environment["COMP_CWORD"] = "s"
    text = nfsverity(status=None).text
    assert all(name in text for name in ("sign", "serve", "show"))
    assert "keygen" not in text


def test_a_shell_that_is_not_known(nfsverity: Any) -> None:
    nfsverity("completion", "tcsh", status=2)
