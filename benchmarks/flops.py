"""How much a model computes: multiply-adds, counted while its modules run.

    python benchmarks/flops.py          the classifier's three kinds of memory, 16 frames of 224 pixels

Counted are matrix products, convolutions and attention, each multiply-add once, and LayerNorm as fvcore counts
it. Torch's counter knows most of its own operators; the formulas of the others stand here, each with the arguments
of its operator's schema: shapes in place of tensors. Padded tokens count like others.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import svm_ext
from svm_ext.ops import _check

Shape = tuple[int, ...]
aten, ours = torch.ops.aten, torch.ops.svm_ext

PAPER = {"none": 282, "stream": 340, "clip": 397}  # temporal -> 10^9 multiply-adds in the paper's table
FRAMES, PIXELS = 16, 224


def _attention(queries: int, keys: int, dim: int) -> int:
    """Count two products, logits and values, for so many queries that meet so many keys each; a multiply-add as
    two, as torch's counter does."""
    return 2 * (2 * queries * keys * dim)


def clip_attend(q: Shape, *given: Any, **_: Any) -> int:
    """Count frame t's queries q [B, T, W, H, n*n, D] against the frames of its block of memory_frames up to itself,
    or, first in first out, against the last memory_frames."""
    return _clip_attention(q, *given[6:8])


def clip_attend_backward(dout: Shape, q: Shape, *given: Any, **_: Any) -> int:
    """Count three products in place of two: logits again, dP and dQ."""
    return _clip_attention(q, *given[-2:]) * 3 // 2


def _clip_attention(q: Shape, memory_frames: int, evict: int) -> int:
    batch, frames, windows, heads, tokens, dim = q
    clear = evict == _check.EVICTIONS["clear"]
    seen = sum(t % memory_frames + 1 if clear else min(t + 1, memory_frames) for t in range(frames))
    return 2 * _attention(batch * windows * heads * tokens, seen * isqrt(tokens), dim)


def memory_attend(q: Shape, k_pool: Shape, v_pool: Shape, *_: Any, **__: Any) -> int:
    """Count queries q [B*W, H, n*n, D] against a full memory, v_pool [S, W, H, n, T, n, D]."""
    rows, heads, tokens, dim = q
    return 2 * _attention(rows * heads * tokens, v_pool[4] * v_pool[5], dim)


def memory_attend_backward(dout: Shape, q: Shape, *given: Any, **_: Any) -> int:
    """Count three products in place of two, as for clips."""
    return memory_attend(q, *given) * 3 // 2


def stream_step_(k_pool: Shape, v_pool: Shape, cursor: Shape, q: Shape, *_: Any, **__: Any) -> int:
    """Count as in memory_attend."""
    return memory_attend(q, k_pool, v_pool)


def sdpa_on_cpu(q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count queries [B, H, N, D] against all keys."""
    return _attention(prod(q[:-1]), k[-2], q[-1])


def sdpa_on_cpu_backward(dout: Shape, q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count five products in place of two: logits again, dV, dP, dQ and dK."""
    return sdpa_on_cpu(q, k) * 5 // 2


def layer_norm(x: Shape, *_: Any, **__: Any) -> int:
    """Count 5 a number, as fvcore does beside its multiply-adds."""
    return 2 * 5 * prod(x)


FORMULAS: dict[Any, Callable[..., int]] = {
    ours.clip_attend: clip_attend,
    ours.clip_attend_backward: clip_attend_backward,
    ours.memory_attend: memory_attend,
    ours.memory_attend_backward: memory_attend_backward,
    ours.stream_step_: stream_step_,
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_on_cpu,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_on_cpu_backward,
    aten.native_layer_norm: layer_norm,
}


def multiply_adds(run: Callable[[], object]) -> int:
    """Return the multiply-adds of a call."""
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with counter:
        run()
    return counter.get_total_flops() // 2


def of_classifier(temporal: str, frames: int = FRAMES, **overrides: Any) -> int:
    """Return the multiply-adds of one clip in the classifier; no weight is made and no number computed."""
    pixels = overrides.get("input_resolution", PIXELS)
    with torch.device("meta"):
        model = svm_ext.create_model("svit_base_action", temporal=temporal, clip_frames=frames, **overrides).eval()
        clip = torch.empty(1, frames, 3, pixels, pixels)
    with torch.no_grad():
        return multiply_adds(lambda: model(clip))


def main() -> None:
    """Print the table."""
    print(f"10^9 multiply-adds, {FRAMES} frames of {PIXELS} x {PIXELS} pixels")
    print(f"{'temporal':<10}{'counted':>9}{'paper':>7}")
    for temporal, paper in PAPER.items():
        print(f"{temporal:<10}{of_classifier(temporal) / 1e9:>9.1f}{paper:>7}")


if __name__ == "__main__":
    main()
