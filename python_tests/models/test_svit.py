"""The backbone as a whole: sizes of pictures, what alpha and queries do, its parameters, what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate

import benchmark_scripts
import helpers
from helpers import BF16, FP32, FP64
from svit_cases import CLASS_TOKEN, ONE_WINDOW, PADDED, PATCH, SIZES, tiny, video, worst
from svm_ext import StreamMemory
from svm_ext.models import svit
from svm_ext.models.config import BackboneConfig
from svm_ext.models.svit import SVit, resized

ALL_SIZES = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def eager(model: SVit) -> torch.nn.Module:
    """The same model with the reference's arithmetic; it keeps its memory itself."""
    plain = benchmark_scripts.load("eager_svit").EagerSVit(model.config).double()
    plain.load_state_dict(model.state_dict(), strict=True)
    return plain.train(model.training)


@ALL_SIZES
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@torch.no_grad()
def test_every_picture_size_equals_plain_torch(size, training):
    model = tiny(dtype=FP64).train(training)
    plain, memory = eager(model), model.new_memory(2, size)
    for frames in video(5, size=size, dtype=FP64):
        assert worst(model(frames, memory), plain(frames)) < 1e-9


@ALL_SIZES
def test_shapes_of_the_maps(size):
    model, (h, w) = tiny(), (size[0] // PATCH, size[1] // PATCH)
    maps = model(video(1, size=size)[0], model.new_memory(2, size))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 2 * h, 2 * w), (2, 32, h, w), (2, 64, h // 2, w // 2)]
    bare = tiny(adapter=False, outputs=(0, 2))
    maps = bare(video(1, size=size)[0], bare.new_memory(2, size))
    assert [tuple(x.shape) for x in maps] == [(2, 32, h, w)] * 2
    maps = model(video(2, size=size).transpose(0, 1))
    assert [tuple(x.shape[:3]) for x in maps] == [(2, 2, 16), (2, 2, 32), (2, 2, 64)]


def test_the_papers_model_has_the_papers_parameters():
    with torch.device("meta"):
        model = SVit()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sum(p.numel() for p in model.parameters()) == 138_641_280
    assert counts["fpn_adaptor"] == 30_976_896
    assert sum(p.numel() for n, p in model.named_parameters() if "residual_block" in n) == 7_680_000
    assert len(model.state_dict()) == 270
    assert all(isinstance(value, torch.nn.Parameter) for value in model.state_dict(keep_vars=True).values())


@torch.no_grad()
def test_alpha_of_zero_is_the_frame_based_model():
    """Bit for bit, whatever the memory holds."""
    model, frame_based = tiny(), tiny(temporal="none")
    frame_based.load_state_dict(model.state_dict(), strict=False)
    for block in model.transformer.resblocks:
        block.attn.alpha.zero_()
    memory = model.new_memory(2, PADDED)
    for frames in video(5):
        for ours, theirs in zip(model(frames, memory), frame_based(frames), strict=True):
            helpers.assert_same(ours, theirs)
    clip = video(3).transpose(0, 1)
    for ours, theirs in zip(model(clip), frame_based(clip), strict=True):
        helpers.assert_same(ours, theirs)


def test_frame_based_models_have_no_temporal_weights():
    names = tiny(temporal="none").state_dict()
    assert not [name for name in names if name.endswith(("_t", "alpha")) or "_t." in name]


@torch.no_grad()
def test_frame_based_models_go_without_a_memory_or_with_a_counter():
    """The same loop serves all models: their memory holds nothing but the step."""
    model, frames = tiny(temporal="none"), video(1)[0]
    memory = model.new_memory(2, PADDED)
    assert memory.nbytes < 2000
    for ours, theirs in zip(model(frames, memory), model(frames), strict=True):
        helpers.assert_same(ours, theirs)
    model(frames[:1], memory, [1])
    assert memory.step.tolist() == [1, 2]


@torch.no_grad()
def test_a_clip_based_frame_sees_later_frames():
    model, clip = tiny(temporal="clip"), video(4).transpose(0, 1)
    whole = model(clip)
    changed = clip.clone()
    changed[:, 3] += 1
    for before, after in zip(whole, model(changed), strict=True):
        assert (before - after)[:, 0].abs().max() > 1e-4
    turned = model(clip.flip(1))
    for before, after in zip(whole, turned, strict=True):  # frames have no order
        torch.testing.assert_close(before.flip(1), after, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_queries_from_the_attention_output_are_another_model():
    ours, theirs = tiny(), tiny(cross_query="attn_out")
    theirs.load_state_dict(ours.state_dict())
    frames = video(1)[0]
    assert worst(ours(frames, ours.new_memory(2, PADDED)), theirs(frames, theirs.new_memory(2, PADDED))) > 1e-3


@torch.no_grad()
def test_a_static_video_stays_what_it_was():
    """At every frame, through wraps and merges, what the first frame gave."""
    model, [frames] = tiny(), video(1)
    memory = model.new_memory(2, PADDED)
    first = model(frames, memory)
    for _ in range(7):
        assert worst(model(frames, memory), first) < 1e-5


@pytest.mark.parametrize("temporal", ["none", "stream", "clip"])
def test_class_token(temporal):
    """The feature of a frame is its normed token; with the maps it goes through clips alike."""
    model = tiny(temporal=temporal, **CLASS_TOKEN)
    clip = video(3, size=ONE_WINDOW).transpose(0, 1)
    found = model.features(clip)
    assert found.class_token.shape == (2, 3, 32)
    assert [tuple(x.shape) for x in found.maps] == [(2, 3, 32, 4, 4)]
    found.class_token.square().sum().backward()
    assert model.class_embedding.grad.abs().max() > 0
    assert tiny().features(clip).class_token is None


@pytest.mark.parametrize(("h", "w"), [(1, 1), (2, 9), (4, 4), (7, 28), (50, 90), (28, 7), (14, 15)])
@pytest.mark.parametrize("dtype", [FP32, FP64])
def test_position_tables_are_resized_bicubically(h, w, dtype):
    table = torch.randn(14, 14, 5, dtype=dtype)
    picture = interpolate(table.permute(2, 0, 1)[None], (h, w), mode="bicubic")[0].permute(1, 2, 0)
    precision = 1e-5 if dtype == FP32 else 1e-12
    torch.testing.assert_close(resized(table, h, w), picture, rtol=precision, atol=precision)


def test_weights_of_resizing_are_kept_by_size_and_bounded():
    table = torch.randn(14, 14, 5)
    resized(table, 23, 31)
    kept = svit._BICUBIC[14, 23, FP32, table.device]
    resized(table, 23, 31)
    assert svit._BICUBIC[14, 23, FP32, table.device] is kept
    assert resized(table.double(), 23, 31).dtype == FP64
    for size in range(200, 400):
        resized(table[..., :1], size, 3)
    assert len(svit._BICUBIC) <= 64


def test_weights_of_resizing_kept_while_inferring_serve_training():
    table = torch.randn(14, 14, 5, requires_grad=True)
    with torch.inference_mode():
        resized(table, 19, 21)
    resized(table, 19, 21).sum().backward()
    assert torch.isfinite(table.grad).all()


def test_a_program_that_is_only_traced_leaves_no_weights_without_contents():
    with FakeTensorMode():
        assert resized(torch.randn(14, 14, 5), 37, 41).shape == (37, 41, 5)
    table = torch.randn(14, 14, 5)
    assert type(resized(table, 37, 41)) is torch.Tensor
    assert all(type(weights) is torch.Tensor for weights in svit._BICUBIC.values())


@torch.no_grad()
def test_a_grid_of_as_many_tokens_but_another_shape_is_resized():
    """2 x 8 tokens are as many as 4 x 4; the reference takes them for the same."""
    model = tiny()
    assert model.positions(4, 4).data_ptr() == model.positional_embedding.data_ptr()
    table = model.positional_embedding.view(4, 4, 32).permute(2, 0, 1)[None]
    picture = interpolate(table, (2, 8), mode="bicubic")[0].permute(1, 2, 0)
    torch.testing.assert_close(model.positions(2, 8), picture)


@pytest.mark.parametrize("how", ["optimizer", "load", "data", "deepcopy", "dtype"])
@torch.no_grad()
def test_a_resized_table_is_never_out_of_date(how):
    model, other = tiny(), tiny()
    frames = video(1)[0]
    model(frames, model.new_memory(2, PADDED))  # whatever could be kept is kept now
    if how == "optimizer":
        with torch.enable_grad():
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            sum(x.mean() for x in model(frames, model.new_memory(2, PADDED))).backward()
            optimizer.step()
        other.load_state_dict(model.state_dict())
    elif how == "load":
        model.load_state_dict(other.state_dict())
    elif how == "data":
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            ours.data.copy_(theirs.data)  # as moving averages are often written; autograd does not notice
    elif how == "deepcopy":
        other = model
        model = copy.deepcopy(model)
        other.positional_embedding.add_(1)
        model.positional_embedding.add_(1)
    else:
        model, other = model.double(), tiny(dtype=FP64)
        other.load_state_dict(model.state_dict())
        frames = frames.double()
    maps = (m(frames, m.new_memory(2, PADDED)) for m in (model, other))
    for ours, theirs in zip(*maps, strict=True):
        helpers.assert_same(ours, theirs)


def test_drop_path_rises_with_depth_and_sleeps_in_evaluation():
    model = tiny(drop_path=0.5)
    chances = [getattr(block.drop, "chance", 0.0) for block in model.transformer.resblocks]
    assert chances == [0.0, 0.25, 0.5]
    clip = video(2, size=ONE_WINDOW)
    helpers.assert_same(model(clip)[2], model(clip)[2])
    model.train()
    helpers.assert_same(model(clip)[0], model(clip)[0])  # of the first block, which nothing skips
    assert not torch.equal(model(clip)[2], model(clip)[2])


def test_a_bf16_model_runs_in_bf16():
    model = tiny(dtype=BF16)
    memory = model.new_memory(2, PADDED)
    assert memory.dtype == BF16
    with torch.no_grad():
        for frames in video(4, dtype=BF16):
            maps = model(frames, memory)
    assert {x.dtype for x in maps} == {BF16}
    assert not any(x.isnan().any() for x in maps)


def test_new_memory_is_made_for_the_model():
    model = tiny()
    memory = model.new_memory(3, PADDED)
    assert (memory.layers, memory.streams, memory.windows, memory.heads, memory.head_dim) == (3, 3, 4, 2, 16)
    assert (memory.window, memory.frames, memory.evict, memory.dtype) == (4, 3, "merge", FP32)
    assert memory.real.tolist() == [[4, 4], [4, 3], [1, 4], [1, 3]]
    assert memory.image_size == PADDED
    assert model.train().new_memory(3, PADDED).evict == "clear"
    given = model.new_memory(1, SIZES["whole"], frames=7, evict="fifo", dtype=BF16, device="meta")
    assert (given.frames, given.evict, given.dtype, given.device.type) == (7, "fifo", BF16, "meta")
    assert given.real is None
    assert tiny(dtype=FP64).new_memory(1, PADDED).dtype == FP64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(image_size=32), r"image_size: expected \(height, width\) in pixels, got 32"),
        (dict(image_size=(40, 55)), "image_size: expected a height and a width that are multiples of 8, got 40 x 55"),
        (dict(streams=0), "streams: expected a whole number of at least 1, got 0"),
        (dict(frames=0), "frames: expected a whole number of at least 1, got 0"),
        (dict(evict=""), "evict: expected merge, fifo or clear, got ''"),
        (dict(dtype=torch.int8), "dtype: expected a floating point type"),
    ],
)
def test_memories_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny().new_memory(**(dict(streams=1, image_size=PADDED) | changes))


def test_a_clip_based_model_has_no_memory():
    with pytest.raises(ValueError, match="temporal: expected 'stream' for a memory, got 'clip'"):
        tiny(temporal="clip").new_memory(1, PADDED)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 40, 56), r"\[3, 40, 56\]; add a batch axis with frames\[None\]"),
        ((2, 40, 56, 3), r"expected \[B, 3, H, W\] or a clip \[B, T, 3, H, W\], got \[2, 40, 56, 3\]"),
        ((40, 56), r"got \[40, 56\]"),
        ((2, 0, 3, 40, 56), "at least one frame"),
        ((2, 3, 41, 56), "multiples of 8, got 41 x 56"),
        ((2, 3, 0, 56), "multiples of 8, got 0 x 56"),
    ],
)
def test_frames_of_another_shape_are_refused(shape, message):
    model = tiny()
    with pytest.raises(ValueError, match=message) as error:
        model(torch.randn(shape), model.new_memory(2, PADDED))
    assert len(str(error.value).splitlines()) == 1


def test_frames_of_another_type_are_refused():
    model, memory = tiny(), tiny().new_memory(2, PADDED)
    for dtype in (torch.uint8, FP64, BF16):
        with pytest.raises(ValueError, match=f"frames: expected torch.float32 like the model, got {dtype}"):
            model(torch.ones(2, 3, *PADDED, dtype=dtype), memory)
    with pytest.raises(ValueError, match="frames: expected them on cpu like the model, got meta"):
        model(torch.ones(2, 3, *PADDED, device="meta"), memory)


def test_models_are_given_what_they_see():
    frames = video(1)[0]
    with pytest.raises(ValueError, match=r"memory: expected a StreamMemory, got NoneType; make one with model.new_mem"):
        tiny()(frames)
    with pytest.raises(ValueError, match=r"expected a clip \[B, T, 3, H, W\] for temporal='clip'"):
        tiny(temporal="clip")(frames)
    with pytest.raises(ValueError, match="memory: expected none with a clip"):
        tiny()(frames[None], tiny().new_memory(1, PADDED))
    with pytest.raises(ValueError, match="pictures of 32 x 32 for a model with a class token, got 40 x 56"):
        tiny(**CLASS_TOKEN)(frames[None])


def test_meta_tensors_tell_shapes():
    """Sizes of a large model can be had without computing it."""
    with torch.device("meta"):
        model = SVit(BackboneConfig(temporal="none")).eval()
    maps = model(torch.empty(1, 3, 800, 1440, device="meta"))
    assert [tuple(x.shape) for x in maps] == [(1, 384, 100, 180), (1, 768, 50, 90), (1, 1536, 25, 45)]


def test_a_memory_made_by_hand_serves_as_well():
    """What counts is what it is made for, not who made it."""
    model, frames = tiny(), video(1)[0]
    sizes = dict(layers=3, streams=2, windows=4, heads=2, head_dim=16, window=4, frames=3)
    memory = StreamMemory(**sizes, real=[(4, 4), (4, 3), (1, 4), (1, 3)])
    with torch.no_grad():
        for ours, theirs in zip(model(frames, memory), model(frames, model.new_memory(2, PADDED)), strict=True):
            helpers.assert_same(ours, theirs)
        for real in (None, [(4, 3), (4, 4), (1, 3), (1, 4)]):
            with pytest.raises(ValueError, match="memory: expected the `real` of pictures of 40 x 56, got another"):
                model(frames, StreamMemory(**sizes, real=real))
