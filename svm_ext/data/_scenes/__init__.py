"""How generated scenes are made: figures, backdrops, walks, a camera, and the brush that paints them.

Everything here is a function of a seed and a frame number, and gives the same pixels everywhere: random bits come
from `SeedSequence` and `PCG64`, whose streams NumPy keeps for ever; all else is integer arithmetic and single
additions, multiplications, divisions and roots of doubles, which IEEE 754 fixes to the last bit. No library sine, no
sum of floats whose order a vector unit may choose.
"""
