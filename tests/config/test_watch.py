"""A change of any file is reported once, when it has settled."""

import os
from pathlib import Path

from sidecar.config.watch import Watcher


def test_unchanged_file_is_never_reported(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    watcher = Watcher([str(file)])
    assert [watcher.changed(now) for now in (0.0, 1.0, 2.0)] == [False, False, False]


def test_change_is_reported_once_after_it_was_seen_twice(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    watcher = Watcher([str(file)])
    file.write_text("22")
    assert [watcher.changed(now) for now in (0.0, 1.0, 2.0, 3.0)] == [False, True, False, False]


def test_file_still_being_written_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    watcher = Watcher([str(file)])
    seen = []
    for now in range(3):
        file.write_text("x" * (now + 2))
        seen.append(watcher.changed(float(now)))
    assert seen == [False, False, False]
    assert watcher.changed(3.0)


def test_files_are_looked_at_once_an_interval(tmp_path: Path) -> None:
    file = tmp_path / "a"
    watcher = Watcher([str(file)], interval_s=5.0)
    file.write_text("1")
    assert [watcher.changed(now) for now in (0.0, 1.0, 4.9, 5.0)] == [False, False, False, True]


def test_kubernetes_symlink_swap_is_a_change(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text("same")
        os.utime(tmp_path / version / "key", ns=(1, 1))
    data, key = tmp_path / "..data", tmp_path / "key"
    data.symlink_to("v1")
    key.symlink_to("..data/key")
    watcher = Watcher([str(key)])
    (tmp_path / "..data_tmp").symlink_to("v2")
    (tmp_path / "..data_tmp").rename(data)
    assert [watcher.changed(now) for now in (0.0, 1.0, 2.0)] == [False, True, False]


def test_file_of_the_same_size_put_in_its_place_is_a_change(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    for path in (file, other):
        path.write_text("1")
        os.utime(path, ns=(1, 1))
    watcher = Watcher([str(file)])
    other.rename(file)
    assert [watcher.changed(now) for now in (0.0, 1.0)] == [False, True]


def test_file_that_comes_or_goes_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "a"
    watcher = Watcher([str(file), "nul\0"])
    file.write_text("1")
    assert [watcher.changed(now) for now in (0.0, 1.0)] == [False, True]
    file.unlink()
    assert [watcher.changed(now) for now in (2.0, 3.0)] == [False, True]


def test_new_set_of_files_keeps_what_was_not_reported_yet(tmp_path: Path) -> None:
    file, secret = tmp_path / "a", tmp_path / "secret"
    file.write_text("1")
    watcher = Watcher([str(file)])
    file.write_text("22")
    watcher.watch([str(file), str(secret)])
    assert [watcher.changed(now) for now in (0.0, 1.0, 2.0)] == [False, True, False]
    secret.write_text("1")
    assert [watcher.changed(now) for now in (3.0, 4.0)] == [False, True]
