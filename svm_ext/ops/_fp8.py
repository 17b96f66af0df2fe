"""How a pool of fp8 keeps numbers: e4m3 codes, and one exponent for all of a unit's frame.

A number is its code times 2^exponent. The exponent is the one that brings the greatest magnitude of the frame to
(224, 448], the upper half octave of e4m3. A power of two, because bf16 then holds every number exactly, so that all
back ends read the same bits; a finer scale would gain next to nothing, for e4m3 is floating itself. It is
2^-117 .. 2^118: within that every number is normal in fp32 and bf16, and the sum of two is finite; what is larger
saturates. A frame of zeros has the exponent 0. A frame with a number that is not finite is NaN as a whole, told by
an exponent of its own: nothing hides, and numbers that are finite cost nothing for it. The kernels' side of this is
kernels/include/svm/fp8.h.
"""

from __future__ import annotations

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
MOST = 448.0  # that e4m3 holds
LEAST_EXPONENT, MOST_EXPONENT, NOT_FINITE = -117, 118, 128


def raw(pool: Tensor) -> Tensor:
    """View a pool as what can be indexed: codes are bytes."""
    return pool.view(torch.uint8) if pool.dtype == E4M3 else pool


def exponents_for(greatest: Tensor) -> Tensor:
    """Return the exponents, int32, of frames with these greatest magnitudes, fp32."""
    fraction, exponent = torch.frexp(greatest)
    exponent = exponent - 9 + (fraction > MOST / 512).int()
    exponent = exponent.clamp(LEAST_EXPONENT, MOST_EXPONENT).masked_fill(greatest == 0, 0)
    return exponent.masked_fill(~greatest.isfinite(), NOT_FINITE)


def quantised(numbers: Tensor, exponents: Tensor) -> Tensor:
    """Return the codes, uint8, of numbers under exponents that broadcast with them; those that are not finite are 0."""
    scaled = (numbers.float() * _power(-exponents)).clamp(-MOST, MOST)
    return scaled.to(E4M3).view(torch.uint8).masked_fill(exponents == NOT_FINITE, 0)


def numbers(codes: Tensor, exponents: Tensor) -> Tensor:
    """Return what codes, uint8, stand for, exactly, in bf16."""
    units = _power(exponents).masked_fill(exponents == NOT_FINITE, float("nan"))
    return (codes.view(E4M3).float() * units).bfloat16()


def _power(exponents: Tensor) -> Tensor:
    """Return 2^exponents, exactly."""
    return ((exponents + 127).clamp(1, 254) << 23).view(torch.float32)
