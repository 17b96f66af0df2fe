"""Windows: nothing is lost on the way between the orders of tokens, bit for bit."""

from __future__ import annotations

import itertools

import pytest
import torch

import helpers
from svm_ext.models.windows import Windows, from_windows, grid_of, real_sizes, runs, to_windows, window_order

CPU = torch.device("cpu")
SIDE = 3
# Every grid up to 3 x 3 windows, of which some are cut.
GRIDS = list(itertools.product(range(1, 3 * SIDE + 1), repeat=2))
SOME = [(1, 1), (2, 3), (3, 3), (3, 9), (6, 3), (7, 3), (6, 8), (4, 7), (9, 9), (1, 8)]


def numbered(h: int, w: int, batch: int = 2) -> torch.Tensor:
    """Tokens [B, h, w, 2] that all differ; none is 0."""
    return torch.arange(1.0, batch * h * w * 2 + 1).view(batch, h, w, 2)


def in_loops(x: torch.Tensor, side: int) -> torch.Tensor:
    """Windows as one would cut them by hand, [B*W, N, C]."""
    batch, h, w, channels = x.shape
    found = []
    for b, top, left in itertools.product(range(batch), range(0, h, side), range(0, w, side)):
        window = torch.zeros(side, side, channels)
        part = x[b, top : top + side, left : left + side]
        window[: part.shape[0], : part.shape[1]] = part
        found.append(window.flatten(0, 1))
    return torch.stack(found)


def test_there_and_back_is_the_same():
    for h, w in GRIDS:
        x = numbered(h, w)
        helpers.assert_same(from_windows(to_windows(x, SIDE), h, w, SIDE), x)


def test_windows_are_cut_row_by_row():
    for h, w in GRIDS:
        x = numbered(h, w)
        helpers.assert_same(to_windows(x, SIDE), in_loops(x, SIDE))


def test_real_sizes_count_what_is_not_padding():
    for h, w in GRIDS:
        counted = [
            (int(window.any(1).sum()), int(window.any(0).sum()))
            for window in to_windows(torch.ones(1, h, w, 1), SIDE).view(-1, SIDE, SIDE)
        ]
        assert real_sizes(h, w, SIDE) == counted


def test_runs_are_whole_windows_and_a_rest():
    assert runs(9, 3) == [9]
    assert runs(10, 3) == [9, 1]
    assert runs(2, 3) == [2]
    assert all(sum(runs(length, side)) == length for length in range(1, 40) for side in range(1, 20))


def test_window_order_is_a_permutation_sorted_by_size():
    for h, w in GRIDS:
        order = window_order(torch.arange(h * w).view(h, w), SIDE)
        assert sorted(order.tolist()) == list(range(h * w))
        windows = [(i // w // SIDE, i % w // SIDE) for i in order.tolist()]
        visited = [window for window, _ in itertools.groupby(windows)]
        assert len(visited) == len(set(visited)), "a window's tokens lie apart"
        sizes = [real_sizes(h, w, SIDE)[i * -(-w // SIDE) + j] for i, j in visited]
        assert len(list(itertools.groupby(sizes))) == len(set(sizes)), "windows of one size lie apart"


@pytest.mark.parametrize(("h", "w"), SOME)
def test_pictures_survive_window_order(h, w):
    windows, x = Windows(h, w, SIDE, CPU), numbered(h, w)
    tokens = windows.from_grid(x)
    assert tokens.shape == (2, h * w, 2)
    helpers.assert_same(windows.to_grid(tokens), x)


@pytest.mark.parametrize(("h", "w"), SOME)
def test_groups_are_the_windows_of_one_size(h, w):
    windows, x = Windows(h, w, SIDE, CPU), numbered(h, w)
    tokens = windows.from_grid(x)
    parts = windows.split(tokens)
    helpers.assert_same(windows.join(parts), tokens)
    assert len(parts) == len(windows.groups) <= 4
    whole = [window[window[:, 0] > 0] for window in in_loops(x, SIDE)]  # real tokens of every window
    for part, group in zip(parts, windows.groups, strict=True):
        assert part.shape == (2 * group.windows, group.tokens, 2)
        assert group.tokens + group.missing == SIDE**2
        for window in part:
            assert any(torch.equal(window, one) for one in whole)
    assert sum(map(len, parts)) == len(whole)


@pytest.mark.parametrize(("h", "w"), SOME)
def test_padded_windows_hold_the_picture(h, w):
    windows, x = Windows(h, w, SIDE, CPU), numbered(h, w)
    tokens = windows.from_grid(x)
    padded = windows.pad(tokens)
    expected = to_windows(x, SIDE)
    inside = expected > 0
    helpers.assert_same(padded[inside], expected[inside])
    assert not padded.isnan().any()
    helpers.assert_same(windows.unpad(padded), tokens)
    helpers.assert_same(windows.unpad(padded.masked_fill(~inside, float("nan"))), tokens)


def test_one_size_of_windows_is_a_view():
    """Where nothing is cut, nothing is copied: neither for attention nor for the memory."""
    windows = Windows(6, 9, SIDE, CPU)
    tokens = windows.from_grid(numbered(6, 9))
    for x in (*windows.split(tokens), windows.pad(tokens), windows.unpad(windows.pad(tokens))):
        assert x.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()
    one = Windows(2, 3, SIDE, CPU)
    x = numbered(2, 3)
    assert one.from_grid(x).data_ptr() == one.to_grid(one.from_grid(x)).data_ptr() == x.data_ptr()


def test_groups_of_one_picture_are_views():
    """Of a single picture even cut windows are read where they lie."""
    windows = Windows(7, 8, SIDE, CPU)
    tokens = windows.from_grid(numbered(7, 8, batch=1))
    assert len(windows.groups) == 4
    for part in windows.split(tokens):
        assert part.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()


def test_the_lead_belongs_to_the_only_window():
    windows, x = Windows(SIDE, SIDE, SIDE, CPU, lead=1), numbered(SIDE, SIDE)
    tokens = torch.cat([-torch.ones(2, 1, 2), windows.from_grid(x)], 1)  # [B, 1 + L, C]
    [part] = windows.split(tokens)
    helpers.assert_same(part, tokens)
    helpers.assert_same(windows.to_grid(tokens), x)
    helpers.assert_same(windows.pad(tokens), tokens[:, 1:])


def test_no_pictures_at_all():
    windows, x = Windows(4, 7, SIDE, CPU), numbered(4, 7, batch=0)
    tokens = windows.from_grid(x)
    assert windows.join(windows.split(tokens)).shape == (0, 28, 2)
    assert windows.pad(tokens).shape == (0, SIDE**2, 2)
    assert windows.unpad(windows.pad(tokens)).shape == (0, 28, 2)
    assert windows.to_grid(tokens).shape == (0, 4, 7, 2)


def test_the_shapes_of_the_paper():
    """800 x 1440 pixels: 28 windows, the lower ones with 8 real rows, those at the right with 6 columns."""
    assert grid_of((800, 1440), 16, "frames") == (50, 90)
    windows = Windows(50, 90, 14, CPU)
    assert len(windows.real) == 28
    assert windows.real[6] == (14, 6)
    assert windows.real[-1] == (8, 6)
    assert [tuple(group) for group in windows.groups] == [(18, 196, 0), (3, 84, 112), (6, 112, 84), (1, 48, 148)]


@pytest.mark.parametrize("size", [(31, 32), (32, 33), (0, 32), (16, 0), (8, 8), (-16, 16)])
def test_pictures_are_whole_patches(size):
    with pytest.raises(ValueError, match=f"frames: .* multiples of 16, got {size[0]} x {size[1]}; pad or resize"):
        grid_of(size, 16, "frames")


@pytest.mark.parametrize("size", [224, (224,), (3, 224, 224), None])
def test_a_size_is_height_and_width(size):
    with pytest.raises(ValueError, match=r"image_size: expected \(height, width\) in pixels, got .*; give both"):
        grid_of(size, 16, "image_size")
