"""What the tests share: back ends to run on, poisoned memories, the fp64 oracle and the one tolerance rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import svm_ext
from svm_ext.ops import _check, _fp8, _pool, reference

FP32, BF16, FP64, FP8 = torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn
NAN = float("nan")
# Types of (q, k, v) and of the pool that go together on the CPU.
DTYPES = [(FP32, FP32), (FP32, BF16), (BF16, FP32), (BF16, BF16), (FP64, FP64)]
DTYPE_IDS = ["fp32", "fp32-bf16pool", "bf16-fp32pool", "bf16", "fp64"]
EVICTIONS = list(_check.EVICTIONS)


@dataclass(frozen=True)
class Backend:
    """A back end as the tests meet it: what use_backend is told, and where and how its pools lie."""

    label: str
    name: str
    isa: str | None = None  # instruction set of the C++ kernels
    layout: str = "columns"
    device: torch.device = torch.device("cpu")

    @contextmanager
    def selected(self) -> Iterator[None]:
        before = torch.ops.svm_ext.cpu_isa(None)
        if self.isa:
            torch.ops.svm_ext.cpu_isa(self.isa)
        try:
            with svm_ext.use_backend(self.name):
                yield
        finally:
            torch.ops.svm_ext.cpu_isa(before)


def compiled_backends() -> list[Backend]:
    """The C++ kernels for every instruction set that this CPU runs."""
    return [Backend(f"cpu-{isa}", "cpu", isa) for isa in torch.ops.svm_ext.cpu_isas().split(",")]


def all_backends() -> list[Backend]:
    """The compiled ones, and plain torch on both pool layouts."""
    reference = Backend("reference", "reference")
    return [*compiled_backends(), reference, replace(reference, label="reference-tokens", layout="tokens")]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Memory:
    """The memory of one layer, as the ops take it, and how its streams stand."""

    k: Tensor
    v: Tensor
    cursor: Tensor
    step: Tensor

    @property
    def pools(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.k, self.v, self.cursor

    @property
    def size(self) -> _pool.PoolSize:
        return _pool.size_of(self.k)

    def clone(self) -> Memory:
        return Memory(self.k.clone(), self.v.clone(), self.cursor.clone(), self.step.clone())

    def widened(self) -> Memory:
        """The same contents in fp64, in the layout that needs no pairs."""
        exponents = _pool.exponents_of(self.k, self.cursor)
        frames = map(_pool.read, (self.k, self.v), (None, None), exponents)
        k, v = (x.transpose(3, 4).double().contiguous() for x in frames)
        return replace(self, k=k, v=v, cursor=self.cursor[..., :2].contiguous())

    def frames(self, pool: Tensor) -> Tensor:
        """All slots, [S, W, H, T, n, n, D]."""
        return _pool.read(pool)


def size(streams=2, windows=2, heads=2, side=3, frames=4, dim=8) -> _pool.PoolSize:
    return _pool.PoolSize(streams, windows, heads, side, frames, dim)


def empty_memory(of: _pool.PoolSize, dtype: torch.dtype = FP32, layout: str = "columns") -> Memory:
    """A memory in which everything that was never written is NaN."""
    device = torch.device("cpu")
    k, v = _pool.empty_pool(of, dtype, device, layout)
    cursor = _pool.empty_cursor(of, device, dtype)
    for exponents in _pool.exponents_of(k, cursor):
        if exponents is not None:
            exponents.fill_(_fp8.NOT_FINITE)
    return Memory(k.fill_(NAN), v.fill_(NAN), cursor, torch.zeros(of.streams, dtype=torch.int64))


def filled_memory(
    of: _pool.PoolSize,
    counts: list[int],
    dtype: torch.dtype = FP32,
    layout: str = "columns",
    real: Tensor | None = None,
) -> Memory:
    """A memory whose streams have seen `counts` frames: random where something is stored, NaN everywhere else."""
    memory = empty_memory(of, dtype, layout)
    count = torch.tensor(counts)
    held = torch.arange(of.frames) < count.clamp(max=of.frames)[:, None]  # [S, T]
    stored = held[:, None, None, :, None, None, None] & inside(of, real)[None, :, None, None, :, :, None]
    for pool, exponents in zip((memory.k, memory.v), _pool.exponents_of(memory.k, memory.cursor), strict=True):
        view = _pool.frames_view(pool)  # [S, W, H, T, n, n, D/g, g]
        noise = torch.randn(of.streams, of.windows, of.heads, of.frames, of.side, of.side, of.dim)
        if exponents is not None:  # codes as large as they come, of frames that differ in size
            noise *= 100
            units = torch.randint(-9, -5, exponents.shape, dtype=torch.int32)
            exponents.copy_(torch.where(held[:, None, None], units, exponents))
        view.copy_(noise.masked_fill(~stored, NAN).unflatten(-1, view.shape[-2:]))
    memory.cursor[..., 0] = count[:, None, None]
    memory.cursor[..., 1] = count[:, None, None] - 1
    memory.step.copy_(count)
    return memory


def inside(of: _pool.PoolSize, real: Tensor | None) -> Tensor:
    """Which tokens are real, [W, n, n]."""
    lines = torch.arange(of.side)
    rows, columns = (torch.full((2, of.windows), of.side) if real is None else real.T)[..., None]
    return (lines < rows)[:, :, None] & (lines < columns)[:, None, :]


class ListMemory:
    """The rules of the paper's code, with Python lists: the oldest frame is the first."""

    def __init__(self, capacity: int, evict: str) -> None:
        self.capacity, self.evict, self.frames = capacity, evict, []

    def append(self, frame: torch.Tensor) -> None:
        if len(self.frames) == self.capacity:
            if self.evict == "clear":
                self.frames = []
            else:
                oldest = self.frames.pop(0)
                if self.evict == "merge" and self.frames:
                    self.frames[0] = (self.frames[0] + oldest) / 2
        self.frames.append(frame)


def tokens(of: _pool.PoolSize, dtype: torch.dtype = FP32, batch: int | None = None) -> Tensor:
    """Random tokens of one frame, [B*W, H, N, D]."""
    rows = (of.streams if batch is None else batch) * of.windows
    return torch.randn(rows, of.heads, of.side**2, of.dim).to(dtype)


def pads(of: _pool.PoolSize, dtype: torch.dtype = FP32) -> tuple[Tensor, Tensor]:
    return torch.randn(of.heads, of.dim).to(dtype), torch.randn(of.heads, of.dim).to(dtype)


def real_sizes(of: _pool.PoolSize) -> Tensor:
    """Random real rows and columns of each window, at least one token."""
    return torch.randint(1, of.side + 1, (of.windows, 2), dtype=torch.int32)


def fused(of: _pool.PoolSize, dtype: torch.dtype = FP32, batch: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as views of one projection's output [B*W, N, 3, H, D], which starts within a larger buffer."""
    rows = (of.streams if batch is None else batch) * of.windows
    buffer = torch.randn(1 + rows * of.side**2 * 3 * of.heads * of.dim).to(dtype)
    projected = buffer[1:].view(rows, of.side**2, 3, of.heads, of.dim)
    q, k, v = projected.permute(2, 0, 3, 1, 4)  # each [B*W, H, N, D]
    return q, k, v


# Ways for a tensor [.., N, D] of the right shape to lie in memory, all of them without a copy.
STRIDED: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens_first": lambda x: x.transpose(-3, -2).contiguous().transpose(-3, -2),
    "dim_outermost": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "every_other": lambda x: torch.stack([x, torch.full_like(x, NAN)], -1)[..., 0],
    "expanded_heads": lambda x: x[..., :1, :, :].expand(x.shape),
    "expanded_rows": lambda x: x[:1].expand(x.shape),
    "one_number": lambda x: x.flatten()[:1].view((1,) * x.ndim).expand(x.shape),
}


def oracle_attend(q: Tensor, memory: Memory, *, streams=None, real=None, pad=(None, None), scale=0.3):
    """out, out_column and lse in fp64 from upcast inputs."""
    pad64 = (None if p is None else p.double() for p in pad)
    return reference.memory_attend(q.double(), *memory.widened().pools, streams, real, *pad64, scale, True)


def oracle_gradient(dout: Tensor, q: Tensor, memory: Memory, **options) -> Tensor:
    """dq in fp64, by autograd through the oracle."""
    q64 = q.detach().double().requires_grad_()
    out, _, _ = oracle_attend(q64, memory, **options)
    return torch.autograd.grad(out, q64, dout.double())[0]


def plain_attend(q: Tensor, memory: Memory, *, streams=None, real=None, pad=(None, None), scale=0.3):
    """out, out_column and lse by plain torch in the narrower type of q and pool."""
    narrow = narrowest(q.dtype, memory.k.dtype)
    return reference.memory_attend(q, *memory.pools, streams, real, *pad, scale, True, dtype=narrow)


def plain_gradient(
    dout: Tensor, q: Tensor, memory: Memory, *, streams=None, real=None, pad=(None, None), scale=0.3
) -> Tensor:
    """dq by plain torch in the narrower type of q and pool."""
    narrow = narrowest(q.dtype, memory.k.dtype)
    results = plain_attend(q.detach(), memory, streams=streams, real=real, pad=pad, scale=scale)
    return reference.memory_attend_backward(dout, q, *memory.pools, streams, real, *pad, *results, scale, dtype=narrow)


def narrowest(q: torch.dtype, pool: torch.dtype) -> torch.dtype:
    """The type that plain torch computes in; an fp8 pool is read as bf16, or as what fp32 queries are."""
    if pool == FP8:
        return FP32 if q == FP32 else BF16
    return max((q, pool), key=lambda dtype: torch.finfo(dtype).eps)


def assert_close(out: Tensor, ref: Tensor, plain: Tensor, what: str = "out", factor: float = 2) -> None:
    """The one rule: at most twice as far from the fp64 truth as plain torch in the same low precision, plus rounding.

    `plain` has the type whose rounding counts. What is infinite must be so here and there. NaN is never right.
    """
    assert out.shape == ref.shape, f"{what}: {list(out.shape)} instead of {list(ref.shape)}"
    assert not out.isnan().any(), f"{what}: {int(out.isnan().sum())} NaN of {out.numel()}"
    infinite = ref.isinf()
    assert torch.equal(out[infinite].double(), ref[infinite]), f"{what}: infinite elsewhere"
    out, ref, plain = (x[~infinite] for x in (out, ref, plain))
    if out.numel() == 0:
        return
    error, allowed = (out - ref).abs().max().item(), factor * (plain - ref).abs().max().item() + rounding(ref, plain)
    assert error <= allowed, f"{what}: {error:.3g} from the truth, allowed {allowed:.3g}"


def rounding(ref: Tensor, plain: Tensor) -> float:
    """What rounding alone may do, in the type of `plain`."""
    rounded = ref.to(plain.dtype)
    allowed = 2 * (rounded + 0.3 - 0.3 - rounded).abs().max().item()
    if plain.dtype in (FP32, FP64):
        # Plain torch computes in this very type: who is nearer to the truth by a few last bits is luck.
        allowed += 16 * torch.finfo(plain.dtype).eps * ref.abs().max().item()
    return allowed


def assert_same(a: Tensor, b: Tensor, what: str = "") -> None:
    """Equal bit for bit, NaN included."""
    assert a.dtype == b.dtype, f"{what}: {a.dtype} and {b.dtype}"
    assert a.shape == b.shape, f"{what}: {list(a.shape)} and {list(b.shape)}"
    equal = (a == b) | (a.isnan() & b.isnan())
    assert bool(equal.all()), f"{what}: {int((~equal).sum())} of {a.numel()} differ"


def assert_same_memory(a: Memory, b: Memory) -> None:
    """Two memories hold the same, bit for bit; zeros and NaN included."""
    for name in ("k", "v", "cursor", "step"):
        assert_same(getattr(a, name), getattr(b, name), name)
