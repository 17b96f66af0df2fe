"""Loads the compiled ops and attaches what Python adds: fakes, autograd formulas, vmap rules.

A back end written in Python is a namespace of ops with the schemas of the C++ library. All back ends then
share one fake, one autograd formula and one vmap rule, and to torch.compile they are alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .. import backend
from . import _triton_launch

COMPILED = "svm_ext"
REFERENCE = "svm_ext_reference"
TRITON = "svm_ext_triton"
OPS = (
    "memory_append_",
    "memory_attend",
    "memory_attend_backward",
    "stream_step_",
    "clip_attend",
    "clip_attend_backward",
    "nms_mask",
)

_SCHEMA_VERSION = 2  # as in csrc/ops/build_info.cpp
_PATH = Path(__file__).parents[1] / "_C.abi3.so"


def build_info() -> dict[str, Any]:
    """Return what the compiled library says of itself."""
    return json.loads(torch.ops.svm_ext.build_info())


def _remedy() -> str:
    if (_PATH.parents[1] / "setup.py").exists():
        return (
            "this is the source folder, which hides an installed svm_ext:"
            " type `pip install -e .`, or work in another folder"
        )
    return "type `pip install .` in the repository"


def _load() -> None:
    if not _PATH.exists():
        raise ImportError(f"svm_ext: the compiled ops are missing ({_PATH.name}); {_remedy()}")
    torch.ops.load_library(_PATH)
    if (found := build_info()["schema"]) != _SCHEMA_VERSION:
        raise ImportError(
            f"svm_ext: expected compiled ops of schema {_SCHEMA_VERSION}, got {found};"
            " type `pip install .` in the repository"
        )


def _kernels_for(key: str) -> frozenset[str]:
    """Return the ops that the C++ library carries for one dispatch key."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(op for op in OPS if has_kernel(f"{COMPILED}::{op}", key))


_load()
_compiled = torch.library.Library(COMPILED, "FRAGMENT")
_in_python = {name: torch.library.Library(name, "DEF") for name in (REFERENCE, TRITON)}
_libraries = {COMPILED: _compiled, **_in_python}


def add_op(
    name: str,
    *,
    fake: Callable[..., Any],
    reference: Callable[..., Any],
    triton: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    vmap: Callable[..., Any] | None = None,
) -> None:
    """Complete one op in all namespaces.

    `backward` and `vmap` receive the namespace they work for as their first argument, so that the whole
    computation stays with the back end that began it.
    """
    schema = getattr(getattr(torch.ops, COMPILED), name).default._schema
    for namespace, implementation in ((REFERENCE, reference), (TRITON, triton)):
        _in_python[namespace].define(str(schema).removeprefix(f"{COMPILED}::"))
        _in_python[namespace].impl(name, implementation, "CompositeExplicitAutograd")
    for namespace, library in _libraries.items():
        qualified, ops = f"{namespace}::{name}", getattr(torch.ops, namespace)
        torch.library.register_fake(qualified, fake, lib=library)
        if backward is not None:
            formula = once_differentiable(partial(backward, ops))
            torch.library.register_autograd(qualified, formula, setup_context=setup_context, lib=library)
        if vmap is not None:
            torch.library.register_vmap(qualified, partial(vmap, ops), lib=library)


def detach_all_inputs(name: str) -> None:
    """Let an op pass by autograd altogether: what it stores is detached by definition."""
    for library in _libraries.values():
        library.impl(name, torch.library.fallthrough_kernel, "Autograd")


backend.announce("cpu", COMPILED, ("cpu", "meta"), _kernels_for("CPU"))
if cuda_ops := _kernels_for("CUDA"):
    backend.announce("cuda", COMPILED, ("cuda",), cuda_ops)
if _triton_launch.installed():
    backend.announce("triton", TRITON, _triton_launch.devices(), frozenset(OPS))
backend.announce("reference", REFERENCE, backend.ANY_DEVICE, frozenset(OPS))
