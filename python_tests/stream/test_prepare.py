"""Preparing: the reference's sizes, its pixels, and boxes that come back to where they were."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from svm_ext.models.detections import Detections
from svm_ext.stream.prepare import MEAN, STD, fit, prepare


def random_picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("source", "scaled", "padded"),
    [
        ((1920, 1080), (1422, 800), (1440, 800)),
        ((640, 480), (1067, 800), (1088, 800)),
        ((1280, 720), (1422, 800), (1440, 800)),
        ((480, 360), (1067, 800), (1088, 800)),
        ((1440, 800), (1440, 800), (1440, 800)),
        ((1080, 1920), (800, 1422), (800, 1440)),  # upright: the sides change places
        ((4000, 500), (1440, 180), (1440, 192)),
        ((500, 500), (800, 800), (800, 800)),
    ],
)
def test_sizes_are_the_references(source, scaled, padded):
    found = fit(source)
    assert (found.source, found.scaled, found.padded) == (source, scaled, padded)
    assert found.image_size == padded[::-1]


def test_the_order_of_the_limits_does_not_matter():
    assert fit((640, 480), (320, 200)) == fit((640, 480), (200, 320))


@pytest.mark.parametrize("source", [(1, 1), (1, 5000), (3, 2), (7680, 4320)])
def test_extreme_sizes(source):
    found = fit(source)
    assert min(found.scaled) >= 1
    assert max(found.scaled) <= 1440
    assert all(side % 32 == 0 for side in found.padded)
    assert all(0 <= padded - scaled < 32 for padded, scaled in zip(found.padded, found.scaled, strict=True))


def test_every_size_fits_and_keeps_its_shape():
    rng = np.random.default_rng(0)
    for width, height in rng.integers(1, 3000, (300, 2)).tolist():
        found = fit((width, height))
        assert max(found.scaled) <= 1440
        assert min(found.scaled) <= 800
        across, down = found.scale
        assert abs(across * width - found.scaled[0]) < 1e-9
        exact = min(1440 / max(width, height), 800 / min(width, height))
        assert abs(across - exact) <= 0.5 / width + 1e-9 or found.scaled[0] == 1
        assert abs(down - exact) <= 0.5 / height + 1e-9 or found.scaled[1] == 1


@pytest.mark.parametrize("sides", [(0, 10), (10, -1), (10,)])
def test_impossible_sizes_are_refused(sides):
    with pytest.raises(ValueError, match="source: expected two sides of at least 1 pixel"):
        fit(sides)
    with pytest.raises(ValueError, match="size: expected two sides of at least 1 pixel"):
        fit((10, 10), sides)


def test_pixels_are_normalised_and_the_rest_is_zero():
    image = random_picture((50, 40))
    found = prepare(image, fit((50, 40), (50, 40)))
    assert found.shape == (3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    expected = (torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std
    assert torch.allclose(found[:, :40, :50], expected, atol=1e-5)
    assert found[:, 40:].abs().max() == 0
    assert found[:, :, 50:].abs().max() == 0


@pytest.mark.parametrize("source", [(1920, 1080), (640, 480), (100, 90)])
def test_scaling_is_the_plain_bilinear_one(source):
    """As the reference has it, up to its rounding to whole pixels' values."""
    image, how = random_picture(source), fit(source)
    found = prepare(image, how)[:, : how.scaled[1], : how.scaled[0]]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    exact = F.interpolate(pixels, how.scaled[::-1], mode="bilinear")[0]
    back = found * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert (back - exact).abs().max() < 1.05
    assert (back - exact).abs().mean() < 0.35


def test_a_picture_that_shrinks_much_does_not_alias():
    stripes = np.zeros((1600, 1600, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    found = prepare(stripes, fit((1600, 1600), (320, 320)))
    grey = found * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert (grey - 127.5).abs().max() < 13  # 127.5 where stripes are picked instead of averaged


def test_it_writes_where_it_is_told():
    how = fit((50, 40), (100, 100))
    batch = torch.full((2, 3, *how.image_size), float("nan"))
    image = random_picture((50, 40))
    assert prepare(image, how, batch[1]).data_ptr() == batch[1].data_ptr()
    assert batch[0].isnan().all()
    assert not batch[1].isnan().any()
    assert torch.equal(batch[1], prepare(image, how))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    how, image = fit((50, 40), (100, 100)), random_picture((50, 40))
    found = prepare(image, how, torch.empty(3, *how.image_size, dtype=dtype))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), prepare(image, how), atol=0.02)


def test_pictures_that_are_views():
    how = fit((50, 40), (100, 100))
    image = random_picture((50, 40))
    wide = random_picture((60, 40))
    wide[:, 5:55] = image
    assert torch.equal(prepare(wide[:, 5:55], how), prepare(image, how))
    flipped = image[:, ::-1]
    assert torch.equal(prepare(flipped, how), prepare(flipped.copy(), how))


def test_pictures_that_may_not_be_written():
    image = random_picture((50, 40))
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(image, fit((50, 40), (100, 100)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 50, 3), dtype=np.float32),
        np.zeros((40, 50), dtype=np.uint8),
        np.zeros((40, 50, 4), dtype=np.uint8),
        np.zeros((50, 40, 3), dtype=np.uint8),
    ],
    ids=["float", "grey", "alpha", "turned"],
)
def test_what_is_no_picture_of_the_stream_is_refused(image):
    with pytest.raises(ValueError, match=r"frame: expected uint8 \[40, 50, 3\], got"):
        prepare(image, fit((50, 40)))


@pytest.mark.parametrize("source", [(1920, 1080), (640, 480), (333, 77)])
def test_boxes_come_back(source):
    how = fit(source)
    width, height = source
    boxes = torch.tensor([[0.0, 0.0, width, height], [10, 20, 30.5, 40.25]])
    across, down = how.scale
    there = boxes * torch.tensor([across, down, across, down])
    assert torch.allclose(there[0, 2:], torch.tensor(how.scaled).float())
    back = how.to_source(Detections(there, torch.ones(2), torch.zeros(2, dtype=torch.int64)))
    assert torch.allclose(back.boxes, boxes, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: preparing on a GPU was not run")
@pytest.mark.parametrize("source", [(1920, 1080), (3840, 2160), (640, 480), (1440, 800)])
def test_a_gpu_prepares_the_same(source):
    how, image = fit(source), random_picture(source)
    there = prepare(image, how, torch.empty(3, *how.image_size, device="cuda")).cpu()
    assert (there - prepare(image, how)).abs().max() < 1.5 / min(STD)
