# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What all commands share: version, help, usage, internal errors, and what is imported for it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from nfsverity_command.cli import COMMANDS, cli
from nfsverity_command.frame import Command


def all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.commands]
        else:
            found.append((name,))
    return found


def test_version(nfsverity: Any) -> None:
    expected = f"nfsverity {importlib.metadata.version('nfs-verity')}\n"
    assert nfsverity("--version").text == expected
    assert nfsverity("--debug", "--version").text == expected


HEAVY = {"asyncio", "construct", "cryptography", "rich", "sqlite3", "multiprocessing", "nfsverity_client"}
"""Packages that take long to import."""


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (["--version"], HEAVY | {"click"}),
        (["--help"], HEAVY),
        (["sign", "--help"], HEAVY),
        (["cat", "--help"], HEAVY),
        (["completion", "bash"], HEAVY - {"asyncio"}),  # click asks bash for its version by asyncio
        (["keygen", "{tmp}/me"], HEAVY - {"construct", "cryptography"}),
        (["trust", "list"], HEAVY - {"construct", "cryptography", "nfsverity_client", "sqlite3"}),
    ],
)
def test_nothing_is_imported_that_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], without: set[str]
) -> None:
    monkeypatch.setenv("NFSVERITY_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NFSVERITY_STATE_DIR", str(tmp_path))
    code = (
        "import sys\n"
        "from nfsverity_command.main import main\n"
        "main(sys.argv[1:])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", code, *filled], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & without == set()


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help_teaches(words: tuple[str, ...]) -> None:
    command: click.Command | None = cli.get_command(click.Context(cli), words[0])
    if len(words) == 2:
        assert isinstance(command, click.Group)
        command = command.commands[words[1]]
    assert isinstance(command, Command)
    assert len(command.examples) >= 2
    assert all(line.startswith(("nfsverity " + " ".join(words), "eval ")) for _, line in command.examples)
    assert all(isinstance(param, click.Argument) or param.help for param in command.params)
    text = command.get_help(click.Context(command, info_name="nfsverity " + " ".join(words)))
    for part in ("Examples:", "Exit status:", *(line for _, line in command.examples), *map(str, command.statuses)):
        assert part in text
    assert ("--json" in text) == bool(command.fields)


def test_help_of_the_group(nfsverity: Any) -> None:
    text = nfsverity("--help").text
    assert nfsverity("-h").text == text
    for name, what in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", text, re.MULTILINE)
    assert "130  interrupted" in text
    assert "remove" in nfsverity("trust", "--help").text


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--frobnicate"], ["trust", "frobnicate"], ["trust"]])
def test_mistakes_of_usage(nfsverity: Any, arguments: list[str]) -> None:
    assert "Usage: nfsverity" in nfsverity(*arguments, status=2).err


def test_a_mistake_of_usage_as_json(nfsverity: Any) -> None:
    value = nfsverity("sign", "--json", status=2).json
    assert (value["command"], value["status"], value["error"]["kind"]) == ("sign", 2, "usage")
    assert nfsverity("show", "--", "--json", status=4).out == b""  # here it is the name of a file


BROKEN = """
import sys
import nfsverity_publisher.new_key
def boom(*_):
    raise RuntimeError("boom")
nfsverity_publisher.new_key.make_key = boom
from nfsverity_command.main import main
sys.exit(main(sys.argv[1:]))
"""


def broken(nfsverity: Any, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run in which the program itself makes a mistake."""
    line = [sys.executable, "-c", BROKEN, *arguments]
    return subprocess.run(
        line, env=nfsverity.environment | environment, cwd=nfsverity.home.parent, capture_output=True, text=True
    )


def test_an_internal_error_is_short_and_says_how_to_report_it(nfsverity: Any) -> None:
    done = broken(nfsverity, "keygen", "me")
    assert done.returncode == 70
    assert done.stderr.startswith("nfsverity: internal error: RuntimeError: boom\n")
    assert "report it" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr
    value = json.loads(broken(nfsverity, "keygen", "me", "--json").stdout)
    assert (value["status"], value["error"]["kind"]) == (70, "internal")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["keygen", "me", "--debug"], {}),
        (["--debug", "keygen", "me"], {}),
        (["keygen", "me"], {"NFSVERITY_DEBUG": "1"}),
    ],
)
def test_the_traceback_comes_when_it_is_asked_for(
    nfsverity: Any, arguments: list[str], environment: dict[str, str]
) -> None:
    done = broken(nfsverity, *arguments, **environment)
    assert done.returncode == 70
    assert "Traceback (most recent call last):" in done.stderr


def test_names_are_harmless_on_a_terminal(nfsverity: Any) -> None:
    error = nfsverity("verify", b"\x1b[31mred\xff", status=4).err
    assert "\x1b" not in error
    assert "\\x1b[31mred\\xff: No such file or directory" in error


def test_an_ascii_locale(nfsverity: Any, signed: Path) -> None:
    nfsverity.environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    (signed / "grün").write_bytes(b"x")
    assert "absent" in nfsverity("verify", signed, status=1).err
    assert nfsverity.json("verify", str(signed), status=1)["failed"] == 1
