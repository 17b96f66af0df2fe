"""Which back end runs an op: one choice for the whole process, read at every call.

A back end is a namespace of `torch.ops` with the schemas of the C++ library. The libraries announce what
they carry when they are loaded; nobody else decides, and nothing falls back in silence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

BACKENDS = ("auto", "cpu", "cuda", "triton", "reference")
ANY_DEVICE = ("cpu", "cuda", "meta")

NO_TRITON = "needs Triton, found none; type `pip install triton`"
_REMEDY = 'svm_ext.use_backend("reference") runs every op in plain torch, slowly'


@dataclass(frozen=True)
class BackEnd:
    """A set of ops under one namespace of `torch.ops`."""

    name: str
    namespace: str
    devices: tuple[str, ...]  # device types whose tensors it takes
    ops: frozenset[str]  # what it carries; a back end may grow op by op


_announced: dict[str, BackEnd] = {}


def announce(name: str, namespace: str, devices: tuple[str, ...], ops: frozenset[str]) -> None:
    """Make a back end known; called by the library that carries it."""
    _announced[name] = BackEnd(name, namespace, devices, ops)


def announced() -> dict[str, BackEnd]:
    """Return the back ends that this installation has, by name."""
    return dict(_announced)


def _checked(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source}: expected one of {', '.join(BACKENDS)}, got {name!r}; auto chooses by device")
    return name


# A plain global, not a context variable: torch.compile guards on it and compiles anew when it changes, and
# backward passes do not read it (they stay with the namespace of their forward), so no thread needs its
# own.
_selected = _checked(os.environ.get("SVM_EXT_BACKEND") or "auto", "SVM_EXT_BACKEND")


def selected() -> str:
    """Return the back end that was chosen, "auto" where the device of the tensors decides."""
    return _selected


class use_backend:
    """Choose the back end of all following ops; in a `with` statement, of the ops inside.

    `auto` takes C++ on the CPU, and on a GPU CUDA where it was built, else Triton.
    """

    def __init__(self, name: str) -> None:
        global _selected
        self._before = _selected
        _selected = _checked(name, "use_backend")

    def __enter__(self) -> None:
        """Keep the choice that the constructor made."""

    def __exit__(self, *error: object) -> None:
        """Go back to the choice before."""
        global _selected
        _selected = self._before


def backend_for(device: torch.device | str) -> str:
    """Return the name of the back end that takes the tensors of this device."""
    if _selected != "auto":
        return _selected
    kind = torch.device(device).type
    if kind == "cuda":
        return "cuda" if "cuda" in _announced else "triton"
    return "cpu"


def ops_for(op: str, tensor: torch.Tensor) -> Any:
    """Return the namespace of `torch.ops` that runs this op on the device of this tensor."""
    if tensor.is_cpu and _selected == "auto":
        return torch.ops.svm_ext  # the C++ library carries every op for the CPU; a call must not cost more than the op
    name = backend_for(tensor.device)
    backend = _announced.get(name)
    if backend is None or op not in backend.ops or tensor.device.type not in backend.devices:
        raise NotImplementedError(_reason(op, name, tensor.device.type))
    return getattr(torch.ops, backend.namespace)


def _reason(op: str, name: str, kind: str) -> str:
    """Say in one line why this back end does not run this op on this kind of device."""
    backend = _announced.get(name)
    if backend is None:
        why = NO_TRITON if name == "triton" else "is not part of this installation"
        return f"{op}: the back end {name!r} {why}; {_REMEDY}"
    if op not in backend.ops:
        return f"{op}: the back end {name!r} does not carry this op yet; {_REMEDY}"
    return f"{op}: the back end {name!r} takes {' and '.join(backend.devices)} tensors, got {kind}; {_REMEDY}"
