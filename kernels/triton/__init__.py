"""The kernels in Triton, installed as svm_ext.kernels_triton: compute only, no torch; one file per op, one stem.

All attention here is one loop (planes.py) over tiles of sixteen keys a column. The ops differ in where the keys lie
and which frames a query may see.
"""
