"""The eager baseline is the reference model: its outputs, its gradients, its memory, its costs."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open
from torch import Tensor

import benchmark_scripts
from svm_ext.models.config import BackboneConfig

eager_svit = benchmark_scripts.load("eager_svit")

PRECISION = 1e-4  # relative to a tensor's maximum
SMALL = BackboneConfig(
    width=16, layers=4, heads=2, input_resolution=64, window_size=4, conv_blocks=(1, 3), stages=(0, 1, 2, 3)
)


class Golden:
    """A golden case, and the model that it asks for."""

    def __init__(self, path) -> None:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        same = {name: config[name] for name in ("width", "layers", "heads", "input_resolution", "window_size")}
        self.config = BackboneConfig(
            **same,
            memory_frames=config["num_frames"],
            conv_blocks=config["residual_block_index"],
            stages=config["stage_segment"],
            outputs=config["out_indices"],
        )
        self.model = eager_svit.EagerSVit(self.config).train(config["mode"] == "train")
        self.model.load_state_dict(self.group("weights/"), strict=True)
        self.clip = self.tensors["frames"].transpose(0, 1)  # [B, T, 3, height, width]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}

    def check_outputs(self, found: list[list[Tensor]]) -> None:
        found = {f"{t}/{level}": x for t, maps in enumerate(found) for level, x in enumerate(maps)}
        check(found, self.group("out/"))


def check(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    assert found.keys() == truth.keys()
    for name, x in found.items():
        assert x.shape == truth[name].shape, name
        error = (x - truth[name]).abs().max() / truth[name].abs().max()
        assert error <= PRECISION, f"{name}: {error:.3g}"


@torch.no_grad()
def test_evaluation(golden):
    """Six frames through three places, the oldest merged into the next-oldest; windows are padded."""
    case = Golden(golden("backbone_eval.safetensors"))
    case.check_outputs(eager_svit.run_clip(case.model, case.clip))
    assert all(len(attention.memory.keys) == case.config.memory_frames for attention in case.model.attentions)


@torch.no_grad()
def test_a_second_clip_starts_empty(golden):
    case = Golden(golden("backbone_eval.safetensors"))
    eager_svit.run_clip(case.model, case.clip)
    case.check_outputs(eager_svit.run_clip(case.model, case.clip))


def test_training(golden):
    """A memory of two frames that starts again when it is full; the gradients of five frames."""
    case = Golden(golden("backbone_train.safetensors"))
    case.check_outputs(eager_svit.run_clip(case.model, case.clip))
    case.model.clear_history()
    probes = list(case.group("probe/").values())
    loss = eager_svit.train_by_frames(case.model, case.clip, probes)
    outputs = case.group("out/").items()
    torch.testing.assert_close(loss, sum((x * probes[int(name[-1])]).mean() for name, x in outputs))
    check({name: p.grad for name, p in case.model.named_parameters()}, case.group("grad/"))


def test_what_is_padded_is_stored_and_attended():
    model = eager_svit.EagerSVit(SMALL).eval()
    model(torch.randn(2, 3, 80, 96))  # 5 x 6 tokens: 2 x 2 windows of 4 x 4
    [keys] = model.attentions[0].memory.keys
    assert keys.shape == (2 * 4, 2, 16, 8)
    corner = keys.unflatten(2, (4, 4))[3]  # [H, row, column, D] of the last window: one row and two columns are real
    bias = model.attentions[0].in_proj_bias[16:32].view(2, 8)
    torch.testing.assert_close(corner[:, 1:], bias[:, None, None].expand(2, 3, 4, 8))
    torch.testing.assert_close(corner[:, 0, 2:], bias[:, None].expand(2, 2, 8))


def test_keys_hold_the_whole_projection():
    """As the reference stores them: views, which keep the queries in memory too."""
    model = eager_svit.EagerSVit(SMALL).eval()
    model(torch.randn(1, 3, 64, 64))
    [keys], [values] = (getattr(model.attentions[0].memory, name) for name in ("keys", "values"))
    assert keys.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    assert keys.untyped_storage().nbytes() == 3 * keys.numel() * 4


def test_positions_are_those_of_the_picture():
    model = eager_svit.EagerSVit(SMALL)
    assert model.positions((4, 4)) is model.positional_embedding
    assert model.positions((5, 6)).shape == (30, 16)
    assert not torch.equal(model.positions((2, 8)), model.positional_embedding)  # as many tokens, another shape


def test_memory_gets_no_gradient():
    """The second frame's loss reaches the temporal branch, and the first frame through nothing."""
    model = eager_svit.EagerSVit(SMALL).train()
    first, second = torch.randn(2, 1, 3, 64, 64).requires_grad_()
    model(first)
    sum(x.sum() for x in model(second)).backward()
    assert model.attentions[0].in_proj_weight_t.grad.abs().max() > 0
    assert not model.attentions[0].memory.keys[0].requires_grad
