"""What info() says, and that it says it on one screen."""

from __future__ import annotations

import json

import pytest
import torch

import svm_ext
from svm_ext import _info, backend


def test_info_names_version_torch_and_back_ends() -> None:
    found = svm_ext.info()
    assert found
    assert found.version == svm_ext.__version__
    assert found.torch == torch.__version__
    assert found.torch_target == "2.11"
    assert list(found.backends) == ["cpu", "cuda", "triton", "reference"]
    assert found.backends["cpu"].usable
    assert found.backends["reference"].usable
    assert all(status.reason for status in found.backends.values())


def test_cpu_instruction_sets_end_with_the_best_and_one_is_in_use() -> None:
    found = svm_ext.info()
    assert "portable" in found.cpu_isas
    assert found.cpu_isa in found.cpu_isas


def test_cuda_has_every_op_where_it_was_built() -> None:
    found = svm_ext.info().backends
    status = found["cuda"]
    if status.built:
        assert status.ops == found["cpu"].ops
        assert "has only" not in status.reason
    if not torch.cuda.is_available():
        assert not status.usable


def test_info_is_one_screen_of_plain_words() -> None:
    lines = str(svm_ext.info()).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120


def test_json_holds_every_field() -> None:
    found = svm_ext.info()
    told = json.loads(found.json())
    assert told["version"] == found.version
    assert told["backends"]["cpu"]["usable"] is True
    assert told["cpu_isas"] == list(found.cpu_isas)


def test_info_follows_the_choice_of_back_end() -> None:
    with backend.use_backend("reference"):
        found = svm_ext.info()
    assert found.selected == "reference"
    assert found.runs["cpu"] == "reference"


def test_a_missing_library_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_info, "_load", _fail)
    found = svm_ext.info()
    assert not found
    assert "compiled ops are missing" in found.backends["cpu"].reason
    assert "compiled ops missing" in str(found)


def _fail() -> None:
    raise ImportError("svm_ext: the compiled ops are missing; type `pip install .`")


@pytest.mark.parametrize(
    ("archs", "capability", "serves"),
    [
        (("sm_80",), (8, 0), True),
        (("sm_80",), (8, 9), True),  # machine code runs on later minor versions of its generation
        (("sm_80",), (9, 0), False),
        (("sm_89",), (8, 6), False),
        (("sm_90a",), (9, 0), True),
        (("sm_90a",), (10, 0), False),
        (("sm_80", "sm_90a", "compute_90"), (12, 0), True),  # PTX runs on everything newer
        (("compute_90",), (8, 0), False),
        ((), (9, 0), False),
    ],
)
def test_archs_serve(archs: tuple[str, ...], capability: tuple[int, int], serves: bool) -> None:
    assert _info.archs_serve(archs, *capability) is serves
