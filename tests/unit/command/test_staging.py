# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where files are written until they are whole: nothing escapes, collides, or is left over."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from nfsverity_command import staging
from nfsverity_command.failure import LocalProblem
from nfsverity_command.new_file import new_file
from nfsverity_command.staging import NewTree
from nfsverity_proto.errors import NameCollision, Unreachable
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.tree import Shape


def put(tree: NewTree, path: bytes, content: bytes = b"new") -> None:
    file = tree.create(path, False)
    file.write(memoryview(content))
    file.finish(1_000_000_000)
    os.close(file.fd)
    tree.keep(path)


def names(directory: Path) -> set[bytes]:
    base = os.fsencode(directory)
    return {
        os.path.relpath(os.path.join(at, name), base) for at, below, files in os.walk(base) for name in below + files
    }


def test_a_new_tree_appears_at_once(tmp_path: Path) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a/b/caf\xe9")
        put(tree, b"c")
        assert not (tmp_path / "mirror").exists()
        tree.commit()
    assert names(tmp_path) == {b"mirror", b"mirror/a", b"mirror/a/b", b"mirror/a/b/caf\xe9", b"mirror/c"}


def test_a_tree_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a/b")
    assert names(tmp_path) == set()


def test_files_take_their_places_among_others(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_bytes(b"old")
    (tmp_path / "a" / "both").write_bytes(b"old")
    with closing(NewTree(tmp_path)) as tree:
        put(tree, b"a/both")
        put(tree, b"b/c")
        assert (tmp_path / "a" / "both").read_bytes() == b"old"
        tree.commit()
    assert names(tmp_path) == {b"a", b"a/old", b"a/both", b"b", b"b/c"}
    assert (tmp_path / "a" / "both").read_bytes() == b"new"
    assert (tmp_path / "a" / "old").read_bytes() == b"old"


def test_what_was_discarded_does_not_appear(tmp_path: Path) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:
        os.close(tree.create(b"bad", False).fd)
        tree.discard(b"bad")
        put(tree, b"good")
        tree.commit()
    assert names(tmp_path) == {b"mirror", b"mirror/good"}


def test_no_link_leads_out_of_the_destination(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a").symlink_to(tmp_path / "outside")
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a/b")
        with pytest.raises(LocalProblem, match="mirror/a has to be a directory"):
            tree.commit()
    assert names(tmp_path) == {b"outside", b"mirror", b"mirror/a"}


def test_a_link_in_place_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"old")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a").symlink_to(tmp_path / "outside")
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a")
        tree.commit()
    assert not (tmp_path / "mirror" / "a").is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"old"


@pytest.mark.parametrize("path", [b"../a", b"a/../../b", b"/a", b"a//b", b"a\0b", b".", b"a/."])
def test_what_is_no_path_is_refused(tmp_path: Path, path: bytes) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree, pytest.raises(ValueError):
        tree.create(path, False)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("path", [b".nfsverity/head", b"a/.nfsverity", b".NFSVERITY/x", b""])
def test_what_would_be_metadata_is_refused(tmp_path: Path, path: bytes) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree, pytest.raises(LocalProblem):
        tree.create(path, False)


@pytest.mark.parametrize(("first", "second"), [(b"a", b"a"), (b"a", b"a/b"), (b"a/b", b"a")])
def test_names_that_collide_are_an_error(tmp_path: Path, first: bytes, second: bytes) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, first)
        with pytest.raises(NameCollision, match="takes its name for that of another file"):
            tree.create(second, False)


@pytest.mark.spec("fim-link-3")
@pytest.mark.parametrize("what", ["file", "link", "directory"])
@pytest.mark.parametrize("first", ["whole", "under way", "stays", "link", "directory"])
def test_what_is_the_same_name_here_is_never_two(tmp_path: Path, first: str, what: str) -> None:
    """A file system that takes "Name" for "name" finds there what this run has made; a second name does as well."""
    (tmp_path / "mirror").mkdir()
    with closing(NewTree(tmp_path / "mirror")) as tree:
        match first:
            case "whole":
                put(tree, b"name")
            case "under way":
                os.close(tree.create(b"name", False).fd)
            case "stays":
                tree.leave_alone(b"name")
            case "link":
                tree.link(b"name", b"target")
            case "directory":
                tree.directory(b"name")
        if first == "directory":
            os.rename(tree.path / "name", tree.path / "Name")
        else:
            os.link(tree.path / "name", tree.path / "Name", follow_symlinks=False)
        make = {
            "file": lambda: tree.create(b"Name", False),
            "link": lambda: tree.link(b"Name", b"target"),
            "directory": lambda: tree.directory(b"Name"),
        }[what]
        with pytest.raises(NameCollision):
            make()


def test_what_a_run_before_left_is_replaced_by_anything(tmp_path: Path) -> None:
    tree = NewTree(tmp_path / "mirror")
    put(tree, b"d/file")
    put(tree, b"d/was-file")
    tree.link(b"was-link", b"/")
    tree.link(b"gone", b"/")
    tree.directory(b"was-directory/deeper")
    tree.leave()
    with closing(NewTree(tmp_path / "mirror")) as again:
        assert again.resumed
        put(again, b"was-directory")
        put(again, b"was-link/below")
        again.link(b"d/was-file", b"file")
        again.directory(b"empty")
        again.commit()
    found = {b"was-directory", b"was-link", b"was-link/below", b"d", b"d/was-file", b"empty"}
    assert names(tmp_path / "mirror") == found


def test_the_place_itself_is_no_name_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with closing(NewTree(tmp_path / "mirror")) as tree:
        for name in (tree.path.name, tree.path.name.upper()):
            with pytest.raises(LocalProblem, match="until they are whole"):
                tree.create(os.fsencode(name) + b"/x", False)


def test_two_for_one_destination(tmp_path: Path) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:
        with pytest.raises(LocalProblem, match="another get is writing"):
            NewTree(tmp_path / "mirror")
        put(tree, b"a")
        tree.commit()
    with closing(NewTree(tmp_path / "mirror")) as again:
        assert not again.resumed


def test_the_longest_path_there_is_fits(tmp_path: Path) -> None:
    longest = b"/".join([b"n" * 255] * 16)[:4095]
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, longest)
        tree.commit()
    fd = os.open(tmp_path / "mirror", os.O_RDONLY)
    try:
        assert os.stat(longest, dir_fd=fd).st_size == len(b"new")
    finally:
        os.close(fd)


def test_a_name_that_the_file_system_cannot_have_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(NewTree(tmp_path / "mirror")) as tree:

        def refuse(*_: object, **__: object) -> int:  # as macOS does with what is not UTF-8
            raise OSError(errno.EILSEQ, "Illegal byte sequence")

        with monkeypatch.context() as patch:
            patch.setattr(staging.os, "open", refuse)
            with pytest.raises(LocalProblem, match="cannot have its name: Illegal byte sequence"):
                tree.create(b"caf\xe9", False)


def test_a_tree_does_not_go_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(NotADirectoryError):
        NewTree(tmp_path / "file")


def test_errors_name_the_destination(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        NewTree(tmp_path / "none" / "mirror")
    assert caught.value.filename == str(tmp_path / "none" / "mirror")
    with pytest.raises(FileNotFoundError) as caught, new_file(tmp_path / "none" / "file", False):
        pass
    assert caught.value.filename == str(tmp_path / "none")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    destination = tmp_path / "file"
    destination.write_bytes(b"old")
    with new_file(destination, True) as file:
        file.write(memoryview(b"new"))
        file.finish(1_500_000_000)
        assert destination.read_bytes() == b"old"
    assert destination.read_bytes() == b"new"
    assert destination.stat().st_mtime_ns == 1_500_000_000
    assert destination.stat().st_mode & 0o100
    assert names(tmp_path) == {b"file"}


def test_a_file_that_fails_is_not_there(tmp_path: Path) -> None:
    destination = tmp_path / "file"
    destination.write_bytes(b"old")

    def fail() -> None:
        with new_file(destination, False) as file:
            file.write(memoryview(b"new"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert destination.read_bytes() == b"old"
    assert names(tmp_path) == {b"file"}


def test_a_file_does_not_replace_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(IsADirectoryError), new_file(tmp_path / "d", False):
        pass


def test_zeros_become_holes(tmp_path: Path) -> None:
    content = [bytes(2**20), b"x" + bytes(2**20 - 2) + b"y", bytes(2**20), b"z", bytes(2**20)]
    with new_file(tmp_path / "file", False) as file:
        for part in content:
            file.write(memoryview(part))
        file.finish(0)
    assert (tmp_path / "file").read_bytes() == b"".join(content)
    assert (tmp_path / "file").stat().st_blocks * 512 < 2 * 2**20


def test_what_was_left_comes_before_old_files(tmp_path: Path) -> None:
    mib = 2**20
    contents = {b"l": {1: b"l"}, b"a": {0: b"a", 1: b"a"}, b"b": {0: b"b", 1: b"b", 3: b"b", 5: b"b"}}

    def interrupted() -> None:
        with new_file(tmp_path / "file", False) as file:
            file.write(memoryview(bytes(mib)))
            file.write(memoryview(b"l" * mib))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for name in (b"a", b"b"):
        with open(tmp_path / os.fsdecode(name), "wb") as old:
            for at, byte in contents[name].items():
                old.seek(at * mib)
                old.write(byte * mib)
    done: list[int] = []
    with (
        open(tmp_path / "a", "rb") as one,
        open(tmp_path / "b", "rb") as two,
        new_file(tmp_path / "file", False) as new,
    ):
        assert new.resumed
        new.begin_as([one.fileno(), two.fileno()], 5 * mib, done.append)
        new.finish(0)
    parts = b"".join(byte * mib for byte in (b"a", b"l", b"\0", b"b", b"\0"))
    assert (tmp_path / "file").read_bytes() == parts
    assert sum(done) == 2 * mib, "what is there is not copied again"
    assert names(tmp_path) == {b"file", b"a", b"b"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unreachable, RuntimeError, OSError])
def test_only_what_the_next_run_can_use_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    def ended(content: bytes) -> None:
        with new_file(tmp_path / "file", False) as file:
            if content:
                file.write(memoryview(content))
            raise error("over")

    for content in (b"some", b""):
        with pytest.raises(error):
            ended(content)
        left = names(tmp_path)
        assert len(left) == (1 if content and error in (KeyboardInterrupt, Unreachable) else 0)
        for name in left:
            os.unlink(tmp_path / os.fsdecode(name))


def test_a_time_that_cannot_be_had_is_left_out(tmp_path: Path) -> None:
    with new_file(tmp_path / "file", False) as file:
        file.finish(2**200)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("by_system", [True, False])
@pytest.mark.parametrize("size", [0, 5, 2**20, 2**20 + 7, 3 * 2**20])
def test_a_file_that_begins_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, by_system: bool
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "not here")

    if not by_system:
        monkeypatch.setattr(os, "copy_file_range", refused, raising=False)
    old = tmp_path / "old"
    with old.open("wb") as file:
        file.write(b"begin")
        file.seek(2**20)
        file.write(b"end")
        file.truncate(2 * 2**20)
    content = old.read_bytes()
    done: list[int] = []
    with old.open("rb") as file, new_file(tmp_path / "new", False) as new:
        new.begin_as([file.fileno()], size, done.append)
        new.put(1, memoryview(b"EGI"[:size]))
        new.finish(10**18)
    expected = content[:size] + bytes(max(0, size - len(content)))
    assert (tmp_path / "new").read_bytes() == (expected[:1] + b"EGI" + expected[4:] if size else b"")
    assert old.read_bytes() == content
    assert sum(done) <= len(content)
    if size > 2**20 + 7:
        assert (tmp_path / "new").stat().st_blocks * 512 < 2**20, "holes stay holes"


def left(directory: Path, path: bytes, content: bytes = b"left") -> Path:
    """What a run that was interrupted leaves."""
    tree = NewTree(directory)
    put(tree, path, content)
    tree.leave(silently=True)
    return tree.path


def test_a_folder_that_no_run_has_left_is_not_touched(tmp_path: Path) -> None:
    """Others can move one of this user's there, where they can write to what the destination is in."""
    (tmp_path / "thesis").mkdir(mode=0o750)
    (tmp_path / "thesis" / "chapter").write_bytes(b"years")
    place = left(tmp_path / "mirror", b"a")
    with closing(NewTree(tmp_path / "mirror")) as tree:
        assert tree.resumed
    for existing in (False, True):
        if existing:
            (tmp_path / "mirror").mkdir()
            place = tmp_path / "mirror" / place.name
        (tmp_path / "thesis").rename(place)
        with pytest.raises(LocalProblem, match="is in the way, and not what a get has left"):
            NewTree(tmp_path / "mirror")
        place.rename(tmp_path / "thesis")
        assert (tmp_path / "thesis" / "chapter").read_bytes() == b"years"
        assert (tmp_path / "thesis").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_no_folder_in_its_place_is_told(tmp_path: Path, what: str) -> None:
    place = left(tmp_path / "mirror", b"a")
    place.rename(tmp_path / "elsewhere")
    if what == "file":
        place.write_bytes(b"")
    else:
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalProblem, match="is in the way"):
        NewTree(tmp_path / "mirror")


@pytest.mark.parametrize("what", ["link", "folder"])
@pytest.mark.parametrize("ends", ["commit", "close", "leave"])
def test_a_folder_that_is_swapped_meanwhile_is_not_touched(tmp_path: Path, what: str, ends: str) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / "key").write_bytes(b"secret")
    tree = NewTree(tmp_path / "mirror")
    put(tree, b"key", b"of the server")
    tree.path.rename(tmp_path / "away")
    if what == "link":
        tree.path.symlink_to(tmp_path / "private")
    else:
        (tmp_path / "private").rename(tree.path)
    if ends == "commit":
        with pytest.raises(LocalProblem, match="was replaced while it was written to"):
            tree.commit()
        tree.close()
    else:
        getattr(tree, ends)()
    assert not (tmp_path / "mirror").exists()
    there = tree.path if what == "folder" else tmp_path / "private"
    assert (there / "key").read_bytes() == b"secret"
    assert there.stat().st_mode & 0o777 == 0o700


def test_what_was_left_below_a_long_path_is_removed(tmp_path: Path) -> None:
    """Its path from the root of the file system is longer than the system takes."""
    long = b"/".join([b"d" * 250] * 16)
    place = left(tmp_path / "mirror", long + b"/old")
    with closing(NewTree(tmp_path / "mirror")) as tree:
        assert tree.resumed
        put(tree, b"new")
        tree.commit()
    assert not place.exists()
    assert os.listdir(tmp_path / "mirror") == ["new"]


@pytest.mark.parametrize("why", ["mode", "link", ""])
def test_a_file_that_others_can_write_to_is_not_taken_over(tmp_path: Path, why: str) -> None:
    place = left(tmp_path / "mirror", b"a", b"good")
    if why == "mode":
        (place / "a").chmod(0o666)
    elif why == "link":
        os.link(place / "a", tmp_path / "second")
    hash, shape = hash_by_number(SHA256), Shape(4, 16)
    root = hash.leaf(b"good")
    mtime = (place / "a").stat().st_mtime_ns
    with closing(NewTree(tmp_path / "mirror")) as tree:
        assert tree.take_left_over(b"a", False, shape, hash, root, mtime, lambda _: None) == (why == "")


@pytest.mark.parametrize("path", [b".nfsverity-get-0123", b"a/.NFSverity-get-", b".nfsverity-get-run/b"])
def test_no_name_is_that_of_what_is_not_whole(tmp_path: Path, path: bytes) -> None:
    """Else a later run would find it in its way."""
    for destination in (tmp_path / "new", tmp_path):
        with closing(NewTree(destination)) as tree, pytest.raises(LocalProblem, match="names that begin with"):
            tree.create(path, False)


def test_a_mark_that_a_killed_run_left_in_the_destination_goes_with_the_next_one(tmp_path: Path) -> None:
    place = left(tmp_path / "mirror", b"a")
    place.rename(tmp_path / "mirror")
    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a")
        tree.commit()
    assert names(tmp_path) == {b"mirror", b"mirror/a"}


def test_another_run_may_remove_the_mark_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To it, the destination exists by then."""
    rename = os.rename

    def renamed(*given: str, **at: int) -> None:
        rename(*given, **at)
        NewTree(tmp_path / "mirror").close()

    with closing(NewTree(tmp_path / "mirror")) as tree:
        put(tree, b"a")
        monkeypatch.setattr(staging.os, "rename", renamed)
        tree.commit()
    assert names(tmp_path) == {b"mirror", b"mirror/a"}
