"""What the Triton back end chooses, and how its compile report is read; needs no Triton."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

import triton_report
from svm_ext.kernels_triton import heuristics
from svm_ext.kernels_triton.heuristics import Gpu

A100, H100, MI300, ADA, TURING = (
    Gpu("cuda", 80, 108),
    Gpu("cuda", 90, 132),
    Gpu("hip", 94, 304),
    Gpu("cuda", 89, 128),
    Gpu("cuda", 75, 40),
)
LOOP = """\
        /*0000*/  STL [R1], R0 ;
.L_x_1:
        /*0010*/  LDL R2, [R1] ;
        /*0020*/  IADD3 R2, R2, R0, RZ ;
        /*0030*/  @P0 BRA `(.L_x_2) ;
        /*0040*/  @P1 BRA `(.L_x_1) ;
.L_x_2:
        /*0050*/  LDL R0, [R1] ;
"""


@pytest.mark.parametrize("frames", range(1, 40))
def test_a_tile_is_sixteen_keys_of_a_column(frames):
    plan = heuristics.attend(H100, 336, 14, frames, 64, 2).plan
    assert plan.rows * plan.frames == heuristics.KEYS
    assert plan.rows <= heuristics.MOST_SIDE // 2  # half a tile has eight groups
    assert plan.frames >= min(frames, heuristics.KEYS)


@pytest.mark.parametrize(
    ("dim", "width", "parts"), [(1, 16, 1), (24, 32, 1), (32, 32, 1), (64, 64, 1), (96, 128, 2), (128, 128, 2)]
)
def test_heads_are_padded_and_wide_ones_shared(dim, width, parts):
    launch = heuristics.attend(H100, 336, 14, 32, dim, 2)
    assert (launch.plan.dim, launch.plan.width, launch.parts) == (dim, width, parts)
    assert heuristics.attend(H100, 336, 14, 32, dim, 4).parts == max(1, width // 32)


def test_few_units_are_split_by_rows():
    splits = [heuristics.attend(H100, units, 14, 32, 64, 2).splits for units in (1, 12, 66, 132, 336)]
    assert splits == [14, 11, 2, 1, 1]
    assert heuristics.attend(H100, 1, 14, 4, 64, 2).splits == 4  # tiles of four rows
    assert heuristics.attend(H100, 1, 1, 1, 64, 2).splits == 1


def test_a_second_tile_is_under_way_where_there_is_room():
    def stages(gpu, dim=64, size=2, **options):
        return heuristics.attend(gpu, 336, 14, 32, dim, size, **options).plan.stages

    assert [stages(gpu) for gpu in (H100, A100, ADA, MI300)] == [2, 2, 1, 1]
    assert [stages(gpu, backward=True) for gpu in (H100, A100)] == [2, 1]
    assert [stages(gpu, 128) for gpu in (H100, A100)] == [2, 1]
    assert stages(H100, size=4) == 1


def test_wide_numbers_are_multiplied_in_chunks():
    """Each takes three products, and so three times the registers; narrow ones keep their queries on the chip."""

    def chunk(dim, size, **options):
        return heuristics.attend(H100, 336, 14, 32, dim, size, **options).plan.chunk

    assert [chunk(dim, 4) for dim in (5, 16, 24, 64, 128)] == [16] * 5
    assert [chunk(dim, 2, backward=True) for dim in (5, 64, 128)] == [16, 64, 128]
    assert [chunk(dim, 2, coded=True) for dim in (5, 64, 128)] == [16, 64, 64]


def test_fp32_stays_fp32():
    def precision(gpu, size=4):
        return heuristics.attend(gpu, 336, 14, 32, 64, size).plan.precision

    assert [precision(gpu) for gpu in (H100, A100, ADA)] == ["tf32x3"] * 3
    assert [precision(gpu) for gpu in (MI300, TURING)] == ["ieee"] * 2
    assert precision(H100, 2) == "ieee"


@pytest.mark.parametrize("dim", [5, 64, 128])
def test_an_append_keeps_its_warps_busy(dim):
    launch = heuristics.append(14, dim, 2)
    assert launch.plan.part == launch.plan.width >= dim
    assert launch.num_warps in (1, 2, 4, 8)


def test_wide_heads_are_appended_in_fewer_rows():
    rows = {dim: heuristics.append(14, dim, 2).plan.rows for dim in (5, 128, 136, 256, 512)}
    assert rows == {5: 4, 128: 4, 136: 2, 256: 2, 512: 1}


def test_one_pass_takes_small_windows_and_heads():
    assert heuristics.one_pass(16, 128)
    assert not heuristics.one_pass(17, 16)
    assert not heuristics.one_pass(3, 129)


@pytest.mark.parametrize(("side", "blocks"), [(3, 1), (16, 1), (17, 1), (32, 1), (33, 2), (100, 4)])
def test_lines_are_dealt_to_programs_in_blocks(side, blocks):
    launch = heuristics.attend_any(H100, side, 64, 2)
    assert launch.splits == side * blocks
    assert launch.plan.queries * blocks >= side


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("side", [14, 20])
@pytest.mark.parametrize("dim", [1, 24, 64, 128, 136, 256, 512])
def test_the_sums_of_a_block_fit_into_registers(dim, side, size):
    launch = heuristics.attend_any(H100, side, dim, size)
    plan = launch.plan
    assert launch.parts * plan.part == plan.width >= dim
    assert plan.width % plan.chunk == 0
    assert plan.queries * plan.part <= 8192 // size
    assert plan.queries * plan.chunk <= 8192 // size  # those that stay on the chip


def test_spills_count_in_loops_only():
    assert triton_report.spills_in_loops(LOOP) == 1
    assert triton_report.spills_in_loops(LOOP.replace("LDL R2", "LDS R2")) == 0


def test_faults_of_a_kernel():
    kernel = triton_report.Kernel("attend", "bf16 64 frame", "sm_90", 255, 48, 0, 133120, 5.0)
    assert kernel.fault == ""
    for changed, fault in (
        ({"spilling_in_loops": 5}, "5 spilling instructions in loops"),
        ({"spilling_in_loops": 4}, ""),
        ({"spilling_in_loops": 90, "case": "bf16 64 few units"}, "90 spilling instructions in loops"),
        ({"spilling_in_loops": 90, "name": "memory_attend_backward_kernel"}, ""),
        ({"shared_bytes": 250_000}, "more shared memory than sm_90 has"),
        ({"spilling_in_loops": 90, "case": "fp32 64"}, ""),
    ):
        assert replace(kernel, **changed).fault == fault


def test_report_fails_where_a_kernel_is_at_fault(capsys):
    kernel = triton_report.Kernel("attend", "fp32 64", "sm_80", 255, 48, 0, 133120, 5.0)
    for shared, code in ((133120, 0), (200_000, 1)):
        found = [replace(kernel, shared_bytes=shared)]
        with mock.patch.object(triton_report, "compile_all", return_value=iter(found)):
            assert triton_report.main(["sm_80"]) == code
    assert "FAULT: more shared memory than sm_80 has" in capsys.readouterr().out
