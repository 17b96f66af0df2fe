"""A checkpoint is whole or absent, says what is wrong with it, and brings every generator back."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from svm_ext.train import checkpoint


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.pt"
    checkpoint.write({"weights": torch.arange(3), "iteration": 7}, path)
    found = checkpoint.read(path)
    assert found["iteration"] == 7
    assert torch.equal(found["weights"], torch.arange(3))
    assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]


def test_random_numbers_go_on_as_they_would_have(tmp_path: Path) -> None:
    random.gauss(0, 1), np.random.randn()  # both now hold a second number back
    checkpoint.write({"random": checkpoint.random_state()}, tmp_path / "a.pt")
    expected = torch.rand(3), np.random.randn(3), random.gauss(0, 1), random.random()
    torch.rand(100), np.random.randn(100), random.random()
    checkpoint.set_random_state(checkpoint.read(tmp_path / "a.pt")["random"])
    found = torch.rand(3), np.random.randn(3), random.gauss(0, 1), random.random()
    assert torch.equal(expected[0], found[0])
    assert np.array_equal(expected[1], found[1])
    assert expected[2:] == found[2:]


def test_an_interrupted_write_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write({"iteration": 1}, path)

    def interrupted(*args: object) -> None:
        args[1].write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write({"iteration": 2}, path)
    monkeypatch.undo()
    assert checkpoint.read(path)["iteration"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_cut_file_is_one_line(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write({"weights": torch.randn(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match="cannot be read") as error:
        checkpoint.read(path)
    assert "\n" not in str(error.value)


def test_another_version_a_foreign_file_and_none_at_all(tmp_path: Path) -> None:
    torch.save({"version": 99}, tmp_path / "new.pt")
    with pytest.raises(ValueError, match=r"expected version 1 .*got 99"):
        checkpoint.read(tmp_path / "new.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="got None"):
        checkpoint.read(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "none.pt")


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"version": 1, "evil": Path}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(tmp_path / "evil.pt")
