# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Progress, which only a terminal is shown; and Ctrl-C, which comes from one."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import wait_for_bytes

SECONDS = 60


class Terminal:
    """A terminal of which we are the other side."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.openpty()
        self.shown = b""

    def look(self, seconds: float = 0.02) -> bytes:
        """All that was shown until now."""
        while select.select([self._ours], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                data = os.read(self._ours, 65536)
                self.shown += data
                if data:
                    continue
            break
        return self.shown

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def large(nfsverity: Any, alice: Any, tmp_path: Path) -> Path:
    """A signed folder with one file of 32 MiB, whose signer is believed."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "large").write_bytes(bytes(range(256)) * 2**17)
    nfsverity("sign", *alice.options, folder)
    nfsverity("trust", "add", alice.certificate)
    return folder


def test_a_terminal_is_shown_mb_per_second(nfsverity: Any, serve: Any, large: Path, terminal: Terminal) -> None:
    url = serve(large).url + "/large"
    process = nfsverity.start("cat", url, stdout=subprocess.PIPE, stderr=terminal.theirs)
    got = 0
    deadline = time.monotonic() + SECONDS
    while b"MB/s" not in terminal.look() and time.monotonic() < deadline:  # read slowly, until it is there
        got += len(process.stdout.read1(2**18))
    assert b"MB/s" in terminal.shown
    assert url.encode() in terminal.shown
    got += len(process.stdout.read())
    process.stdout.close()
    assert process.wait(SECONDS) == 0
    assert got == 32 * 2**20
    assert terminal.look().endswith(b"\x1b[?25h\r\x1b[1A\x1b[2K") or b"\x1b[2K" in terminal.shown[-40:]  # and gone


@pytest.mark.parametrize("command", ["sign", "verify", "get"])
def test_each_long_command_has_a_bar(
    nfsverity: Any, alice: Any, serve: Any, large: Path, terminal: Terminal, tmp_path: Path, command: str
) -> None:
    arguments = {
        "sign": ["sign", *alice.options, "--rehash", large],
        "verify": ["verify", large],
        "get": ["get", serve(large).url, tmp_path / "copy"],
    }[command]
    process = nfsverity.start(*arguments, stdout=subprocess.PIPE, stderr=terminal.theirs)
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(SECONDS) == 0
    assert "━".encode() in terminal.look()
    assert "━".encode() not in out
    quiet = nfsverity(*[tmp_path / "again" if argument == tmp_path / "copy" else argument for argument in arguments])
    assert "━" not in quiet.err


def test_a_dumb_terminal_and_one_without_colours(nfsverity: Any, large: Path, terminal: Terminal) -> None:
    nfsverity.environment |= {"NO_COLOR": "1", "TERM": "dumb"}
    process = nfsverity.start("verify", large, stdout=subprocess.DEVNULL, stderr=terminal.theirs)
    assert process.wait(SECONDS) == 0
    assert b"\x1b" not in terminal.look()


def test_ctrl_c_leaves_what_the_next_run_takes_up_and_the_terminal_as_it_was(
    nfsverity: Any, serve: Any, slow: Any, large: Path, terminal: Terminal, tmp_path: Path
) -> None:
    server = serve(large)
    between = slow(server.port, 5 * 2**20)
    (tmp_path / "here").mkdir()

    def own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(terminal.theirs, termios.TIOCSCTTY, 0)

    process = nfsverity.start(
        "get", between.url + "/large", tmp_path / "here" / "copy",
        stdin=terminal.theirs, stderr=terminal.theirs, preexec_fn=own_terminal,
    )  # fmt: skip
    assert between.stalled.wait(SECONDS)
    wait_for_bytes(tmp_path / "here", 2**21)
    terminal.press_ctrl_c()
    assert process.wait(SECONDS) == 130
    assert b"nfsverity: interrupted" in terminal.look()
    assert b"\x1b[?25h" in terminal.shown  # the cursor is there again
    assert b"Traceback" not in terminal.shown
    assert not (tmp_path / "here" / "copy").exists()
    again = nfsverity.json("get", server.url + "/large", str(tmp_path / "here" / "copy"))
    assert int(again["reused"]) > 2**20
    assert os.listdir(tmp_path / "here") == ["copy"]


def test_ctrl_c_while_several_processes_hash(nfsverity: Any, alice: Any, terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with (folder / "large").open("wb") as file:
        for number in range(256):
            file.write(bytes([number]) * 2**20)

    def own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(terminal.theirs, termios.TIOCSCTTY, 0)

    process = nfsverity.start(
        "sign", *alice.options, "--jobs", "2", folder,
        stdin=terminal.theirs, stdout=subprocess.DEVNULL, stderr=terminal.theirs, preexec_fn=own_terminal,
    )  # fmt: skip
    deadline = time.monotonic() + SECONDS
    while b"MB" not in terminal.look() and process.poll() is None and time.monotonic() < deadline:
        pass
    terminal.press_ctrl_c()
    status = process.wait(SECONDS)
    shown = terminal.look()
    assert b"Traceback" not in shown, shown.decode()
    assert status in (0, 130)  # 0: it was quicker
    if status:
        assert not (folder / ".nfsverity" / "head").exists()
