"""A pool of fp8: e4m3 codes, and an exponent for each slot of a unit; the rules are those of svm_ext/ops/_fp8.py.

Codes come as bytes, for Triton knows e4m3 on some GPUs only. Their bits in another place are a number that is too small
by a power of two, also where e4m3 is subnormal. The exponents of a slot are one entry of the unit's cursor: K's are its
lower 32 bits, V's the upper ones.
"""

from __future__ import annotations

import triton
import triton.language as tl

MOST = tl.constexpr(448.0)  # that e4m3 holds
LEAST_NORMAL = tl.constexpr(0.015625)
STEPS = tl.constexpr(16384.0)  # there the steps of fp32 are those of e4m3 below LEAST_NORMAL: 2^-9
LEAST_EXPONENT = tl.constexpr(-117)
MOST_EXPONENT = tl.constexpr(118)
NOT_FINITE = tl.constexpr(128)  # of a frame with a number that is not finite: all of it reads as NaN
SHIFTED = tl.constexpr(2.0**120)


@triton.jit
def numbers_of(loaded, TYPE: tl.constexpr):
    """What was loaded from a pool as numbers of a type; codes count units that their slot's exponent tells."""
    if loaded.dtype == tl.uint8:
        signed = loaded.to(tl.int8, bitcast=True)  # widened, the sign is in every bit above the others
        if tl.bfloat16 == TYPE:
            bits = (signed.to(tl.int16) << 4) & tl.full((), 0x87F0, tl.uint16).to(tl.int16, bitcast=True)
            return bits.to(tl.bfloat16, bitcast=True) * SHIFTED
        else:
            bits = (signed.to(tl.int32) << 20) & tl.full((), 0x87F00000, tl.uint32).to(tl.int32, bitcast=True)
            return (bits.to(tl.float32, bitcast=True) * SHIFTED).to(TYPE)
    else:
        return loaded.to(TYPE)


@triton.jit
def power_of_two(exponent):
    """2^exponent of a normal number, exactly."""
    return ((exponent.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def unit_of(exponent):
    """What the codes of a slot with this exponent count."""
    return tl.where(exponent > MOST_EXPONENT, float("nan"), power_of_two(exponent))


@triton.jit
def load_units(exponents, slots, there):
    """What the codes of K and those of V count in some slots of a unit; 1 where there is no slot."""
    both = tl.load(exponents + slots, mask=there, other=0)
    return unit_of((both << 32) >> 32), unit_of(both >> 32)


@triton.jit
def bits_of_magnitude(x):
    """The bits of |x|: their order is that of the magnitudes, and NaN is above all."""
    return x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def exponent_for(greatest):
    """What brings a frame's greatest magnitude, given in bits, to (224, 448]."""
    above_448 = ((greatest & 0x7FFFFF) > 0x600000).to(tl.int32)  # 448 is 1.75 * 2^8
    exponent = (greatest >> 23) - (127 + 8) + above_448
    exponent = tl.minimum(tl.maximum(exponent, LEAST_EXPONENT), MOST_EXPONENT)
    exponent = tl.where(greatest == 0, 0, exponent)
    return tl.where(greatest >= 0x7F800000, NOT_FINITE, exponent)


@triton.jit
def codes_of(x, exponent):
    """The nearest codes of a frame's numbers under its exponent: of two equally near the even one, beyond 448 its."""
    scaled = x.to(tl.float32) * power_of_two(-exponent)
    bits = bits_of_magnitude(scaled)
    size = bits.to(tl.float32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)
    subnormal = (size + STEPS).to(tl.int32, bitcast=True) - tl.full((), STEPS, tl.float32).to(tl.int32, bitcast=True)
    code = tl.where(size >= LEAST_NORMAL, normal, subnormal)
    code = tl.where(size >= MOST, 0x7E, code)
    sign = (scaled.to(tl.int32, bitcast=True) >> 24) & 0x80
    return tl.where(exponent == NOT_FINITE, 0, sign | code).to(tl.uint8)
