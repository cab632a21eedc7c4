# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The node cache as people meet it: `nfsverity cache`, `--no-cache`, and what processes find that come later."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
LARGE = random.Random(5).randbytes(40 * MIB)


@pytest.fixture
def large(nfsverity: Any, alice: Any, serve: Any, tmp_path: Path) -> str:
    """The URL of a file of 40 MiB, whose signer the user believes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(LARGE)
    nfsverity("sign", *alice.options, tree)
    nfsverity("trust", "add", alice.certificate)
    return str(serve(tree).url) + "/large"


def cat(nfsverity: Any, *arguments: str) -> tuple[bytes, Any]:
    result = nfsverity("cat", *arguments, "--json")
    text = result.err[result.err.index("{") :]
    return result.out, json.loads(text)


@pytest.mark.spec("fim-cache-3")
@pytest.mark.parametrize("presentation", ["ahead", "on-demand", "inline"])
def test_a_second_process_is_sent_no_hashes(nfsverity: Any, large: str, presentation: str) -> None:
    options = ("--offset", "20M", "--length", "100000", "--presentation", presentation, large)
    expected = LARGE[20 * MIB : 20 * MIB + 100000]
    data, first = cat(nfsverity, *options)
    assert data == expected
    assert first["hashes"] > 0
    data, second = cat(nfsverity, *options)
    assert data == expected
    assert second["hashes"] == 0
    assert int(second["cache"]["bytes_saved"]) == 32 * first["hashes"]
    assert second["cache"]["misses"] == second["cache"]["dropped"] == 0
    data, without = cat(nfsverity, "--no-cache", *options)
    assert data == expected
    assert without["hashes"] == first["hashes"]
    assert without["cache"] is None


@pytest.mark.spec("fim-cache-7")
def test_content_is_kept_where_it_is_asked_for(nfsverity: Any, large: str, tmp_path: Path) -> None:
    options = ("--offset", "20M", "--length", "3000000", large)
    expected = LARGE[20 * MIB : 20 * MIB + 3000000]
    assert cat(nfsverity, *options)[1]["cache"]["data_misses"] == 0
    data, first = cat(nfsverity, "--cache-data", *options)
    assert data == expected
    assert first["cache"]["data_bytes_saved"] == "0"
    data, second = cat(nfsverity, "--cache-data", *options)
    assert data == expected
    assert second["cache"]["data_misses"] == second["cache"]["data_dropped"] == 0
    assert int(second["cache"]["data_bytes_saved"]) >= len(expected)
    got = nfsverity.json("get", "--cache-data", large, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == LARGE
    assert int(got["cache"]["data_bytes_saved"]) >= 2 * MIB
    stats = nfsverity.json("cache", "stats")
    assert stats["data_contents"] == 1
    assert 39 * MIB < int(stats["data_bytes"]) < int(stats["data_limit"]) == 2**32
    assert int(stats["data_bytes_saved"]) > int(got["cache"]["data_bytes_saved"])
    assert "dropped" in nfsverity("cache", "stats").text
    assert int(nfsverity.json("cache", "clear")["bytes"]) > 39 * MIB
    assert nfsverity.json("cache", "stats")["data_bytes"] == "0"


def test_content_cannot_be_kept_without_a_cache(nfsverity: Any, large: str) -> None:
    assert "only one of them" in nfsverity("cat", "--no-cache", "--cache-data", large, status=2).err
    for variable in ("NFSVERITY_CACHE_SIZE", "NFSVERITY_CACHE_DATA_SIZE"):
        nfsverity.environment[variable] = "0"
        assert f"{variable} is 0" in nfsverity("cat", "--cache-data", large, status=4).err
        del nfsverity.environment[variable]


def test_readers_are_killed_while_they_keep_content(nfsverity: Any, large: str) -> None:
    for after in (1, 5 * MIB, 39 * MIB):
        reader = nfsverity.start("cat", "--cache-data", large, stdout=subprocess.PIPE)
        reader.stdout.read(after)
        reader.send_signal(signal.SIGKILL)
        reader.stdout.close()
        reader.wait()
    for _ in range(2):
        data, report = cat(nfsverity, "--cache-data", large)
        assert data == LARGE
        assert report["cache"]["data_dropped"] == 0
    assert report["cache"]["data_misses"] == 0


def test_stats_and_clear(nfsverity: Any, large: str) -> None:
    empty = nfsverity.json("cache", "stats")
    assert (empty["runs"], empty["bytes"], empty["hit_rate"]) == (0, "0", None)
    assert not os.path.exists(empty["directory"]), "looking makes nothing"
    nfsverity("cat", large)
    cat(nfsverity, "--offset", "30M", "--length", "5", large)
    stats = nfsverity.json("cache", "stats")
    assert stats["contents"] == 1
    assert stats["runs"] == 4, "640 units: three runs of leaves, and one above"
    assert stats["hits"] == 2
    assert int(stats["bytes_saved"]) > 0
    assert 0 < stats["hit_rate"] < 1
    assert 0 < int(stats["bytes"]) <= int(stats["limit"]) == 2**28
    text = nfsverity("cache", "stats").text
    assert "4 runs of nodes, of 1 content" in text
    freed = nfsverity.json("cache", "clear")
    assert int(freed["bytes"]) >= int(stats["bytes"])
    assert nfsverity.json("cache", "stats")["runs"] == 0
    nfsverity("cache", "clear")


def test_get_and_verify_fill_and_use_it(nfsverity: Any, large: str, tmp_path: Path) -> None:
    verified = nfsverity.json("verify", large)
    assert verified["hashes"] > 0
    got = nfsverity.json("get", large, str(tmp_path / "copy"))
    assert got["cache"]["hits"] > 0
    assert got["hashes"] <= 10, "but for what came when the file was opened"
    assert (tmp_path / "copy").read_bytes() == LARGE
    assert nfsverity.json("verify", "--no-cache", large)["cache"] is None
    (tmp_path / "copy").unlink()
    assert nfsverity.json("get", "--no-cache", large, str(tmp_path / "copy"))["cache"] is None


def test_nothing_is_made_without_need(nfsverity: Any, large: str) -> None:
    nfsverity("cat", "--no-cache", large)
    nfsverity.environment["NFSVERITY_CACHE_SIZE"] = "0"
    nfsverity("cat", large)
    assert not (nfsverity.home / "cache").exists()


def test_a_size_that_is_none(nfsverity: Any, large: str) -> None:
    nfsverity.environment["NFSVERITY_CACHE_SIZE"] = "much"
    for arguments in (["cat", large], ["cache", "stats"]):
        assert "NFSVERITY_CACHE_SIZE" in nfsverity(*arguments, status=4).err


def test_the_size_is_kept_to(nfsverity: Any, large: str) -> None:
    nfsverity.environment["NFSVERITY_CACHE_SIZE"] = "256K"
    nfsverity("cat", large)
    stats = nfsverity.json("cache", "stats")
    assert int(stats["bytes"]) <= 2**18 == int(stats["limit"])


@pytest.mark.spec("fim-cache-4")
def test_a_damaged_cache_is_one_warning(nfsverity: Any, large: str) -> None:
    (nfsverity.home / "cache").mkdir(parents=True)
    (nfsverity.home / "cache" / "nodes.sqlite3").write_bytes(b"no database" * 1000)
    result = nfsverity("cat", large)
    assert result.out == LARGE
    assert result.err.count("warning") == 1
    result = nfsverity("cat", large)
    assert result.out == LARGE
    assert "warning" not in result.err


def test_a_place_that_cannot_be_used_is_one_warning(nfsverity: Any, large: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    nfsverity.environment["NFSVERITY_CACHE_DIR"] = str(tmp_path / "file" / "cache")
    result = nfsverity("cat", large)
    assert result.out == LARGE
    assert result.err.count("warning") == 1
    assert nfsverity("cat", "--no-cache", large).err == ""
    del nfsverity.environment["NFSVERITY_CACHE_DIR"]
    nfsverity.environment["XDG_CACHE_HOME"] = str(tmp_path / "file")
    assert "warning" not in nfsverity("cat", large).err, "nobody asked for one there"


def test_readers_are_killed_while_they_fill_it(nfsverity: Any, large: str) -> None:
    for after in (1, 5 * MIB, 39 * MIB):
        reader = nfsverity.start("cat", large, stdout=subprocess.PIPE)
        reader.stdout.read(after)
        reader.send_signal(signal.SIGKILL)
        reader.stdout.close()
        reader.wait()
    result = nfsverity("cat", large)
    assert result.out == LARGE
    assert "warning" not in result.err


def test_it_is_deleted_while_processes_read(nfsverity: Any, large: str) -> None:
    readers = [nfsverity.start("cat", large, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    firsts = [reader.stdout.read(MIB) for reader in readers]
    nfsverity("cache", "clear")
    for reader, first in zip(readers, firsts, strict=True):
        rest, err = reader.communicate(timeout=60)
        assert first + rest == LARGE
        assert err.count(b"warning") <= 1  # it may be met half deleted
        assert reader.returncode == 0
