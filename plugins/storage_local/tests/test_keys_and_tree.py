import os
from pathlib import Path

import pytest
from echo_storage_local import tree
from echo_storage_local.keys import object_path
from hypothesis import example, given, settings
from hypothesis import strategies as st

from echo_core.plugin_api import InvalidRequestError, NotFoundError, PutFile, ReadObject

LETTERS = st.text(alphabet="aAb0._-", min_size=1, max_size=4)
SEGMENT = st.one_of(LETTERS, st.sampled_from([199, 200, 201]).flatmap(lambda n: LETTERS.map(lambda end: "x" * n + end)))
SEGMENT = SEGMENT.filter(lambda text: text not in {".", ".."})
KEYS = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join).filter(lambda key: len(key) <= 512)


@given(st.one_of(st.text(max_size=60), st.text(alphabet="./\\a~%\x00+@", max_size=20), KEYS))
@example("../a")
@example("a/../../b")
@example("a/..")
@example("/etc/passwd")
@example("..@/a")
@example("a\x00/b")
@example("x" * 200 + "../y")
@example("x" * 200 + ".")
def test_no_text_leads_out_of_the_root(text: str) -> None:
    try:
        path = object_path(text)
    except InvalidRequestError:
        return
    assert path
    for name in path:
        assert name not in {"", ".", ".."}
        assert "/" not in name
        assert "\x00" not in name
        assert len(name.encode()) <= 255


@given(st.sets(KEYS, min_size=2, max_size=6))
def test_two_keys_never_share_a_path(keys: set[str]) -> None:
    paths = [object_path(key) for key in keys]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert not any(other[: len(path)] == path for other in paths if other != path)


@settings(max_examples=40)
@given(st.sets(KEYS, max_size=12), st.data())
def test_walk_gives_the_order_of_the_keys(tmp_path_factory: pytest.TempPathFactory, keys: set[str], data) -> None:
    root = tmp_path_factory.mktemp("walk")
    for key in keys:
        root.joinpath(*object_path(key)).mkdir(parents=True)
    some = st.sampled_from(sorted(keys)) if keys else st.just("")
    prefix = data.draw(st.one_of(st.just(""), some, some.map(lambda key: key[: len(key) // 2])))
    after = data.draw(st.one_of(st.just(""), some, st.text(alphabet="a/.-Z", max_size=3)))
    fd = os.open(root, os.O_RDONLY)
    try:
        found = list(tree.walk_keys(fd, prefix=prefix, after=after))
    finally:
        os.close(fd)
    assert found == sorted(key for key in keys if key.startswith(prefix) and key > after)


async def test_planted_symbolic_links_are_not_followed(served, storage) -> None:
    outside = served.data_dir / "outside"
    (outside / "b@").mkdir(parents=True)
    (outside / "b@" / "data").write_bytes(b"secret")
    (outside / "b@" / "meta.json").write_text("{}")
    objects = served.data_dir / "objects" / "objects"
    (objects / "a").symlink_to(outside)
    (objects / "b@").symlink_to(outside / "b@")
    for key in ("a/b", "b"):
        with pytest.raises(NotFoundError):
            await storage.stat(key)
    source = served.data_dir / "source"
    source.write_bytes(b"x")
    with pytest.raises(Exception, match=r"storage disk failed|exist"):
        await storage.put_file(PutFile(key="a/c", path=source, content_type="video/mp4"))
    assert source.read_bytes() == b"x"
    assert {path.name for path in outside.iterdir()} == {"b@"}


async def test_planted_link_in_place_of_the_bytes_is_not_followed(served, storage) -> None:
    source = served.data_dir / "source"
    source.write_bytes(b"x")
    await storage.put_file(PutFile(key="a", path=source, content_type="video/mp4"))
    data = served.data_dir / "objects" / "objects" / "a@" / "data"
    data.unlink()
    data.symlink_to("/etc/hostname")
    with pytest.raises(NotFoundError):
        await anext(storage.open_read(ReadObject(key="a")))


async def test_deleting_the_last_object_removes_its_folders(served, storage) -> None:
    source = served.data_dir / "source"
    for key in ("v/1/hls/a", "v/1/b"):
        source.write_bytes(b"x")
        await storage.put_file(PutFile(key=key, path=source, content_type="video/mp4"))
    objects = served.data_dir / "objects" / "objects"
    await storage.delete("v/1/hls/a")
    assert [path.name for path in (objects / "v" / "1").iterdir()] == ["b@"]
    await storage.delete("v/1/b")
    assert list(objects.iterdir()) == []
    assert list((served.data_dir / "objects" / "trash").iterdir()) == []


def test_commit_wins_against_a_delete_that_keeps_removing_its_folder(tmp_path: Path, monkeypatch) -> None:
    for name in ("source/new", "root"):
        (tmp_path / name).mkdir(parents=True)
    source_fd, root_fd = (os.open(tmp_path / name, os.O_RDONLY) for name in ("source", "root"))
    rename, hindrances = os.rename, 3

    def rename_after_prune(*args, **kwargs) -> None:
        nonlocal hindrances
        if hindrances:
            hindrances -= 1
            tree.prune_folders(root_fd, ["a", "b"])
        rename(*args, **kwargs)

    monkeypatch.setattr(os, "rename", rename_after_prune)
    try:
        assert tree.commit_folder(source_fd, "new", root_fd, ["a", "b", "c@"])
    finally:
        os.close(source_fd)
        os.close(root_fd)
    assert (tmp_path / "root" / "a" / "b" / "c@").is_dir()
