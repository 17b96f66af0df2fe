"""Batch norm of clips: the same as plain batch norm that sees the frames one by one, on one process or on several."""

from __future__ import annotations

import copy
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from svm_ext.models.frame_norm import FrameBatchNorm

CHANNELS = 5
ALIKE = dict(atol=2e-6, rtol=1e-5)


def norms() -> tuple[FrameBatchNorm, nn.BatchNorm2d]:
    """Ours and torch's, with the same random parameters and running statistics."""
    plain = nn.BatchNorm2d(CHANNELS, momentum=0.03, eps=1e-3)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    plain.running_mean.normal_()
    plain.running_var.uniform_(0.5, 2)
    ours = FrameBatchNorm(CHANNELS, momentum=0.03, eps=1e-3)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return ours, plain


def clip(streams: int = 2, frames: int = 3, height: int = 4, width: int = 6) -> torch.Tensor:
    """Frames that differ in mean and spread, so that joint statistics would show."""
    x = torch.randn(streams, frames, CHANNELS, height, width)
    scale = torch.arange(1.0, frames + 1)[:, None, None, None]
    return x * scale + 3 * scale


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], **ALIKE, msg=lambda text, name=name: f"{name}: {text}")


def assert_same_gradients(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("streams", [1, 3])
def test_clip_is_the_loop_over_its_frames(frames: int, streams: int) -> None:
    ours, plain = norms()
    x = clip(streams, frames).requires_grad_()
    looped = x.detach().clone().requires_grad_()
    probe = torch.randn_like(x)
    y = ours(x)
    (y * probe).sum().backward()
    for t in range(frames):
        frame = plain(looped[:, t])
        torch.testing.assert_close(y[:, t], frame, **ALIKE)
        (frame * probe[:, t]).sum().backward()
    torch.testing.assert_close(x.grad, looped.grad, rtol=1e-4, atol=1e-5)
    assert_same_gradients(ours, plain)
    assert_same_state(ours, plain)
    assert ours.num_batches_tracked == frames


def test_single_frames_are_plain_batch_norm() -> None:
    ours, plain = norms()
    for t in range(3):
        x = clip()[:, t]
        torch.testing.assert_close(ours(x), plain(x), **ALIKE)
    assert_same_state(ours, plain)


def test_frames_do_not_see_each_other() -> None:
    """One bright frame of a clip leaves the others as they were."""
    ours, _ = norms()
    x = clip()
    brighter = x.clone()
    brighter[:, 1] += 100
    a, b = ours(x), ours(brighter)
    torch.testing.assert_close(a[:, [0, 2]], b[:, [0, 2]], rtol=0, atol=0)


def test_evaluation_uses_the_running_statistics_and_leaves_them() -> None:
    ours, plain = norms()
    ours.eval(), plain.eval()
    before = copy.deepcopy(ours.state_dict())
    x = clip()
    torch.testing.assert_close(ours(x), plain(x.flatten(0, 1)).view_as(x), **ALIKE)
    torch.testing.assert_close(ours(x[:, 0]), plain(x[:, 0]), **ALIKE)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_strided_maps() -> None:
    """Maps in the order that another layer left them in, without a copy before."""
    ours, plain = norms()
    x = clip().permute(1, 0, 2, 4, 3)  # [T, B, C, w, h]: not contiguous anywhere
    y = ours(x)
    for t in range(x.shape[1]):
        torch.testing.assert_close(y[:, t], plain(x[:, t].contiguous()), **ALIKE)
    torch.testing.assert_close(ours(x[:, 0].to(memory_format=torch.channels_last)), plain(x[:, 0]), **ALIKE)


def test_narrow_maps_keep_their_type_and_wide_statistics() -> None:
    ours, plain = norms()
    x = clip().bfloat16()
    y = ours(x)
    assert y.dtype == torch.bfloat16
    assert ours.running_var.dtype == torch.float32
    for t in range(x.shape[1]):
        torch.testing.assert_close(y[:, t], plain(x[:, t]))
    assert_same_state(ours, plain)


def test_autocast_does_not_round_the_running_statistics() -> None:
    ours, plain = norms()
    x = clip()
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)
    for t in range(x.shape[1]):
        plain(x[:, t])
    assert_same_state(ours, plain)


def test_one_value_a_channel_has_no_statistics() -> None:
    ours, _ = norms()
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours(torch.randn(1, 2, CHANNELS, 1, 1))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_nan_stays_visible() -> None:
    ours, _ = norms()
    x = clip()
    x[0, 1, 0, 0, 0] = torch.nan
    y = ours(x)
    assert y[:, 1, 0].isnan().all()
    assert not y[:, [0, 2]].isnan().any()
    assert ours.running_mean[0].isnan()


@pytest.mark.parametrize("training", [True, False])
def test_compiles_whole(training: bool) -> None:
    ours, _ = norms()
    ours.train(training)
    other = copy.deepcopy(ours)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = clip()
        torch.testing.assert_close(compiled(x), ours(x), **ALIKE)
    assert_same_state(ours, other)


def test_is_a_batch_norm_to_optimisers() -> None:
    """Recipes leave the parameters of batch norms out of weight decay by their class."""
    assert isinstance(FrameBatchNorm(3), nn.BatchNorm2d)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def one_rank(rank: int, port: int, folder: str) -> None:
    """Train one step on this rank's share of the streams; rank 1 has one stream more."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    task = torch.load(f"{folder}/task.pt")
    norm = FrameBatchNorm(CHANNELS, momentum=0.03, eps=1e-3)
    norm.load_state_dict(task["state"])
    rows = slice(0, 1) if rank == 0 else slice(1, 3)
    x = task["x"][rows].requires_grad_()
    y = norm(x)
    (torch.nn.functional.silu(y) * task["probe"][rows]).sum().backward()
    result = dict(y=y.detach(), dx=x.grad, dweight=norm.weight.grad, dbias=norm.bias.grad, state=norm.state_dict())
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("as_clip", [True, False])
def test_ranks_share_their_statistics(as_clip: bool, tmp_path: Path) -> None:
    """Two processes with one and two streams give what one process with three streams gives, gradients too."""
    ours, _ = norms()
    x = clip(streams=3) if as_clip else clip(streams=3)[:, 0].contiguous()
    task = dict(x=x, probe=torch.randn_like(x), state=copy.deepcopy(ours.state_dict()))
    torch.save(task, tmp_path / "task.pt")
    options = dict(nprocs=2, start_method="fork", join=False)
    group = torch.multiprocessing.start_processes(one_rank, (free_port(), str(tmp_path)), **options)
    finished = group.join(timeout=60) or group.join(timeout=60)  # the first returns when the first process ends
    for process in group.processes:
        process.kill()
    assert finished
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]

    x = x.clone().requires_grad_()
    y = ours(x)
    (torch.nn.functional.silu(y) * task["probe"]).sum().backward()
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y.detach(), **ALIKE)
    torch.testing.assert_close(torch.cat([part["dx"] for part in parts]), x.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in (("dweight", ours.weight), ("dbias", ours.bias)):
        torch.testing.assert_close(sum(part[name] for part in parts), parameter.grad, rtol=1e-4, atol=1e-4)
    for part in parts:
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(part["state"][name], value, **ALIKE)
