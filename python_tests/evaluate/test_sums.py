"""Counts that add up."""

from __future__ import annotations

from small_scenes import overlapping, scene
from svm_ext.evaluate.clear import Clear, clear
from svm_ext.evaluate.hota import Hota, hota
from svm_ext.evaluate.sums import total


def test_totals_add_every_field() -> None:
    one = clear(scene([{1: 0}], [{1: 0}]))
    both = total([one, one, clear(scene([{1: 0}], [{1: 2}]))])
    assert isinstance(both, Clear)
    assert (both.tp, both.fn, both.fp, both.mostly_tracked, both.overlap) == (2, 1, 1, 2, 2.0)
    curves = total([hota(overlapping(0.5)), hota(overlapping(1.0))])
    assert isinstance(curves, Hota)
    assert curves.tp.tolist() == [2] * 10 + [1] * 9
    assert total([one]) == one
