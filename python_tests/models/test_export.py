"""A frame step as a program: exported, through a file, and as ONNX, over more frames than the memory holds."""

from __future__ import annotations

import os

import pytest
import torch

import helpers
from svit_cases import ONE_WINDOW, PADDED, tiny, video, worst
from svm_ext import StreamMemory
from svm_ext.models.config import DetectorConfig
from svm_ext.models.detector import Detector
from svm_ext.models.export import Step, export_onnx, export_step

EVICTIONS = ["merge", "fifo", "clear"]
BARE = dict(layers=1, stages=(0,), outputs=(0,), conv_blocks=(0,), adapter=False)  # one block of all kinds of parts
# torch's own: of its exporter's internals, and that some nodes stay unfolded.
QUIET = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]
pytestmark = QUIET


def memories(model, size=PADDED, **options) -> tuple[StreamMemory, StreamMemory]:
    """One to export and to start from, and one to compare with."""
    return model.new_memory(2, size, **options), model.new_memory(2, size, **options)


def test_a_memory_lives_in_the_tensors_it_is_given():
    """Copies of all its tensors are a memory of their own."""
    model, frames = tiny(), video(5)
    memory = model.new_memory(2, PADDED)
    with torch.no_grad():
        for frame in frames[:3]:
            model(frame, memory)
        tensors = [tensor.clone() for tensor in memory.tensors()]
        other = memory.over(tensors)
        assert repr(other) == repr(memory)
        for frame in frames[3:]:
            ours = model(frame, other)
        assert memory.step.tolist() == [3, 3]
        assert tensors[0].tolist() == other.step.tolist() == [5, 5]
        for frame in frames[3:]:
            theirs = model(frame, memory)
    for a, b in zip(ours, theirs, strict=True):
        helpers.assert_same(a, b)
    for a, b in zip(other.tensors(), memory.tensors(), strict=True):
        helpers.assert_same(a, b)


def test_a_step_leaves_its_state_alone():
    model = tiny()
    memory = model.new_memory(2, PADDED)
    state = memory.tensors()
    before = [tensor.clone() for tensor in state]
    maps, after = Step(model, memory)(video(1)[0], state)
    assert len(maps) == 3
    for now, then in zip(state, before, strict=True):
        helpers.assert_same(now, then)
    assert after[0].tolist() == [1, 1]


@pytest.mark.parametrize("evict", EVICTIONS)
@torch.no_grad()
def test_export_carries_the_state_on(evict, tmp_path):
    """Through a file, from a state in the middle of a video, around the ring."""
    model, frames = tiny(**BARE), video(9)
    memory, other = memories(model, evict=evict)
    program = export_step(model, memory)
    torch.export.save(program, tmp_path / "step.pt2")
    step = torch.export.load(tmp_path / "step.pt2").module()
    for frame in frames[:2]:
        model(frame, memory)
        model(frame, other)
    state = memory.tensors()
    for frame in frames[2:]:
        maps, state = step(frame, state)
        assert worst(maps, model(frame, other)) < 1e-5
    helpers.assert_same(state[0], other.step)


@torch.no_grad()
def test_a_detector_exports_up_to_its_boxes():
    model = Detector(DetectorConfig(backbone=tiny().config, neck_channels=16, csp_blocks=1)).eval()
    memory, other = memories(model, (48, 64))
    step, state = export_step(model, memory).module(), memory.tensors()
    for frame in video(4, size=(48, 64)):
        maps, state = step(frame, state)
        flat = [x for maps in model.raw(frame, other) for x in maps]
        assert worst([x for part in maps for x in part], flat) < 1e-4


def run_onnx(path, state, frames):
    """Feed the state of each call to the next; the maps of every frame."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert {entry.name for entry in session.get_inputs()} == {"frames", *state}
    state, found = {name: tensor.numpy() for name, tensor in state.items()}, []
    for frame in frames:
        out = dict(zip(names, session.run(None, {"frames": frame.numpy(), **state}), strict=True))
        state = {name: out.pop(f"next.{name}") for name in state}
        assert list(out) == [f"map.{i}" for i in range(len(out))]
        found.append([torch.from_numpy(x) for x in out.values()])
    return found, state


@pytest.mark.parametrize("evict", ["merge", *(pytest.param(e, marks=pytest.mark.slow) for e in ("fifo", "clear"))])
@torch.no_grad()
def test_onnx_equals_the_model_around_the_ring(evict, tmp_path):
    """Seven frames through a memory of three, two streams, windows cut on both sides."""
    pytest.importorskip("onnxscript")
    model, frames = tiny(**BARE), video(7)
    memory, other = memories(model, evict=evict)
    state = export_onnx(model, memory, tmp_path / "step.onnx")
    assert os.listdir(tmp_path) == ["step.onnx"]
    found, state = run_onnx(tmp_path / "step.onnx", state, frames)
    for maps, frame in zip(found, frames, strict=True):
        assert worst(maps, model(frame, other)) < 1e-4
    assert state["step"].tolist() == [7, 7]
    assert memory.step.tolist() == [0, 0], "exporting touches no memory"


@pytest.mark.slow
@torch.no_grad()
def test_onnx_with_a_memory_of_one_frame_and_all_parts(tmp_path):
    """The adapter, queries of the other kind, one window, one slot."""
    pytest.importorskip("onnxscript")
    model, frames = tiny(cross_query="attn_out"), video(3, size=ONE_WINDOW)
    memory, other = memories(model, ONE_WINDOW, frames=1)
    found, _ = run_onnx(tmp_path / "x.onnx", export_onnx(model, memory, str(tmp_path / "x.onnx")), frames)
    for maps, frame in zip(found, frames, strict=True):
        assert worst(maps, model(frame, other)) < 1e-4


@pytest.mark.parametrize("export", [export_step, lambda model, memory: export_onnx(model, memory, "none.onnx")])
def test_what_cannot_be_exported(export):
    model = tiny(**BARE)
    memory = model.new_memory(2, PADDED)
    with pytest.raises(ValueError, match="model: expected one in evaluation mode, got one in training"):
        export(model.train(), memory)
    memory.image_size = None
    with pytest.raises(
        ValueError, match="memory: expected one of model.new_memory, got one that knows no picture size"
    ):
        export(model.eval(), memory)


def test_without_the_package_for_onnx(monkeypatch, tmp_path):
    model = tiny(**BARE)
    monkeypatch.setattr("svm_ext.models.export.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match="onnxscript: expected the package for ONNX files, got none; type `pip install"
    ):
        export_onnx(model, model.new_memory(2, PADDED), tmp_path / "step.onnx")
