"""Snapshots of a StreamMemory: taking and checking them, and their file format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .ops import _check, _padding, _pool

VERSION = 1
_KIND = "svm_ext.StreamMemory"

Layers = list[tuple[Tensor, Tensor, Tensor]]  # k_pool, v_pool, cursor


def take(layers: Layers, step: Tensor, real: Tensor | None, rows: Tensor, sizes: dict[str, int]) -> dict[str, Any]:
    """Copy the streams `rows` out of a memory."""
    cursor = torch.stack([layer_cursor[rows][..., :2] for _, _, layer_cursor in layers])  # [layers, B, W, H, 2]
    held = cursor[..., 0].clamp(max=sizes["frames"])  # [layers, B, W, H]
    slots = int(held.max()) if held.numel() else 0
    real = _padding.real_or_all(real, sizes["windows"], sizes["window"], step.device)
    real_tokens = _padding.inside(real, sizes["window"])  # [W, n, n]
    state: dict[str, Any] = {
        "metadata": {"kind": _KIND, "version": VERSION, **sizes},
        "step": step[rows],
        "cursor": cursor,
        "real": real.clone(),
    }
    for layer, (k_pool, v_pool, layer_cursor) in enumerate(layers):
        used = torch.arange(slots, device=step.device)[:, None, None] < held[layer][:, None]  # [B, slots, W, H]
        stored = used[..., None, None] & real_tokens[:, None]  # [B, slots, W, H, n, n]
        exponents = _pool.exponents_of(k_pool, layer_cursor)
        for name, pool, each in zip("kv", (k_pool, v_pool), exponents, strict=True):
            # [B, slots, W, H, n, n, D]
            state[f"{name}.{layer}"] = _pool.read_slots(pool, rows, slots, each).masked_fill(~stored[..., None], 0)
    return state


def check(state: dict[str, Any], sizes: dict[str, int], real: Tensor | None, rows: int) -> None:
    """Check that a snapshot is whole and fits a memory of these sizes, `rows` streams of it."""
    metadata = state.get("metadata") if isinstance(state, dict) else None
    if not isinstance(metadata, dict) or metadata.get("kind") != _KIND:
        raise ValueError(f"state: expected a snapshot of a StreamMemory, got {type(state).__name__}; use snapshot()")
    if metadata.get("version") != VERSION:
        raise ValueError(f"state: expected version {VERSION}, got {metadata.get('version')}; take a new snapshot")
    for name, size in sizes.items():
        if metadata.get(name) != size:
            raise ValueError(
                f"{name}: expected {size} like this memory, got {metadata.get(name)} in the snapshot;"
                " make a memory of the snapshot's sizes"
            )
    _check_cursor(state, sizes, rows)
    _check_frames(state, sizes, rows)
    real = _padding.real_or_all(real, sizes["windows"], sizes["window"], state["real"].device)
    if not torch.equal(state["real"], real.to(state["real"].device)):
        raise ValueError(
            "real: expected the snapshot's real rows and columns like this memory's, got others;"
            " make a memory with the snapshot's `real`"
        )


def _tensor(state: dict[str, Any], name: str, dtype: torch.dtype | None = None) -> Tensor:
    tensor = state.get(name)
    if not isinstance(tensor, Tensor):
        raise ValueError(f"state: expected a tensor {name}, got {type(tensor).__name__}; take a new snapshot")
    if dtype is not None:
        _check.dtype(name, tensor, dtype, "take a new snapshot")
    return tensor


def _check_cursor(state: dict[str, Any], sizes: dict[str, int], rows: int) -> None:
    """Check that steps and cursors are such as appends leave behind: they decide what the ops read."""
    step, cursor = _tensor(state, "step", torch.int64), _tensor(state, "cursor", torch.int64)
    if step.ndim != 1 or len(step) != rows:
        raise ValueError(
            f"streams: expected as many as the snapshot holds, {list(step.shape)}, got {rows}; name them in `streams`"
        )
    expected = (sizes["layers"], rows, sizes["windows"], sizes["heads"], 2)
    _check.shape("cursor", cursor, expected, "layers B W H pair", "take a new snapshot")
    count, mark = cursor.unbind(-1)  # [layers, B, W, H]
    now = step.to(cursor.device)[:, None, None]
    if not bool(((count >= 0) & (mark >= -1) & (mark <= now) & (now >= 0)).all()):
        raise ValueError("cursor: expected counts and steps as appends leave them, got others; take a new snapshot")


def _check_frames(state: dict[str, Any], sizes: dict[str, int], rows: int) -> None:
    """Check that there are as many frames as the cursors say, and which of their tokens are real."""
    windows, side = sizes["windows"], sizes["window"]
    _check.shape("real", _tensor(state, "real", torch.int32), (windows, 2), "W pair", "take a new snapshot")
    held = state["cursor"][..., 0].clamp(max=sizes["frames"])
    slots = int(held.max()) if held.numel() else 0
    expected = (rows, slots, windows, sizes["heads"], side, side, sizes["head_dim"])
    for name in (f"{pool}.{layer}" for layer in range(sizes["layers"]) for pool in "kv"):
        frames = _tensor(state, name)
        _check.floating(name, frames)
        _check.shape(name, frames, expected, "B slots W H n n D", "take a new snapshot")


def put(state: dict[str, Any], layers: Layers, step: Tensor, rows: Tensor) -> None:
    """Write a checked snapshot to the streams `rows` of a memory."""
    for layer, (k_pool, v_pool, cursor) in enumerate(layers):
        for name, pool, each in zip("kv", (k_pool, v_pool), _pool.exponents_of(k_pool, cursor), strict=True):
            _pool.write_slots(pool, rows, state[f"{name}.{layer}"], each)
        cursor[rows, ..., :2] = state["cursor"][layer].to(cursor.device)
    step[rows] = state["step"].to(step.device)


def write(state: dict[str, Any], path: Path) -> None:
    """Write a snapshot to a file: under another name first, so that no half file ever has this one."""
    tensors = {name: value.contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part, metadata={"svm_ext": json.dumps(state["metadata"])})
        os.replace(part, path)
    except SafetensorError as error:
        reason = str(error).splitlines()[0]
        raise OSError(f"path: expected a place to write to, got {path} ({reason}); choose another") from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Read a snapshot from a file."""
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a snapshot, got no file at {path}; write one with save()")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("svm_ext")
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        state["metadata"] = json.loads(metadata) if metadata is not None else None
    except (SafetensorError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"path: expected a whole snapshot, got {path} ({reason}); save it again") from error
    if not isinstance(state["metadata"], dict):
        raise ValueError(f"path: expected a snapshot of a StreamMemory, got {path}; write one with save()")
    return state
