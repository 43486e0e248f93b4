import os

import pytest

from genscl_lite.datasets import files
from genscl_lite.datasets.files import RunFolderError


def test_files_appear_whole_or_not_at_all(tmp_path):
    path, earlier = tmp_path / "summary.json", tmp_path / "earlier.json"
    files.write_json(path, {"epoch": 1})
    os.link(path, earlier)
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as temporary:
        temporary.write_text("half a fi")
        raise KeyboardInterrupt
    assert files.read_json(path) == {"epoch": 1} and len(list(tmp_path.iterdir())) == 2
    files.write_json(
        path, {"epoch": 2}
    )  # a new file takes the place of the old one, which is not written to
    assert files.read_json(path) == {"epoch": 2} and files.read_json(earlier) == {"epoch": 1}


def test_a_second_run_in_the_same_folder_says_so(tmp_path):
    with files.locked(tmp_path):
        with pytest.raises(RunFolderError, match="another run is working in this folder"):
            with files.locked(tmp_path):
                pass


def test_what_a_killed_process_was_writing_is_thrown_away(tmp_path):
    """What somebody is writing at this moment stays, and so do other people's files."""
    left, written, theirs = ".summary.json.1.tmp.json", ".log.csv.2.tmp.csv", ".my.tmp.notes"
    for name in (left, written, theirs):
        (tmp_path / name).write_text("half a fi")
    for name in (left, theirs):
        os.utime(tmp_path / name, (0, 0))
    files.write_json(tmp_path / "summary.json", {})
    with files.locked(tmp_path):
        there = {path.name for path in tmp_path.iterdir()}
    assert there == {".lock", "summary.json", written, theirs}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "summary.json").write_text("half a fi")
    with pytest.raises(
        RunFolderError, match="summary.json: damaged, it is not JSON; delete it and run again"
    ):
        files.read_json(tmp_path / "summary.json")
