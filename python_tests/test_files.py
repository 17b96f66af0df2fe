"""Files that are there whole or not at all."""

from __future__ import annotations

import os

import pytest

from svm_ext._files import whole_file


def test_a_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "file.txt"
    with whole_file(str(path)) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def stopped() -> None:
        with whole_file(path) as part:
            part.write_text("ne")
            raise error

    with pytest.raises(error):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_an_interrupt_before_anything_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "file.txt"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "file.txt") as part:
        part.write_text("new")
