"""The reader of MOTChallenge text: what TrackEval accepts, and one line for what cannot be meant."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from svm_ext.evaluate import read_tracks
from svm_ext.evaluate.motchallenge import sequence_length

GT = "1,4,10.5,20,30,60,1,1,0.9\n1,2,50,20,30,60,0,7,1\n3,4,12,20,30,60,1,1,0.8\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gt.txt"


def test_columns_of_ground_truth(file: Path) -> None:
    file.write_text(GT)
    table = read_tracks(file, ground_truth=True)
    assert table.frame.tolist() == [1, 1, 3]
    assert table.id.tolist() == [4, 2, 4]
    assert table.box[0].tolist() == [10.5, 20, 30, 60]
    assert table.mark.tolist() == [1, 0, 1]
    assert table.label.tolist() == [1, 7, 1]
    assert (len(table), table.last_frame) == (3, 3)


def test_results_need_no_class(file: Path) -> None:
    file.write_text("1,4,10,20,30,60,0.75\n")
    table = read_tracks(file)
    assert (table.mark.tolist(), table.label.tolist()) == ([0.75], [1])


def test_results_with_the_usual_minus_ones(file: Path) -> None:
    file.write_text("1,4,10,20,30,60,0.75,-1,-1,-1\n")
    assert read_tracks(file).label.tolist() == [-1]


@pytest.mark.parametrize(
    "text",
    [
        GT.replace(",", ", "),
        GT.replace(",", " "),
        GT.replace(",", "\t"),
        GT.replace(",", "   "),
        GT.replace(",", ";"),
        GT.replace("\n", "\r\n"),
        GT.replace("\n", " \n"),
        GT.replace("\n", ",\n"),
        GT.replace("\n", "\n\n"),
        GT.rstrip("\n"),
        "\ufeff" + GT,
        GT.replace("1,4,", "1.0,4.0,"),
        GT.replace("10.5", "1.05e1"),
    ],
    ids=[
        *["spaces after commas", "spaces", "tabs", "columns", "semicolons", "windows", "trailing spaces"],
        *["trailing commas", "empty lines", "no last line end", "byte order mark", "floats", "exponents"],
    ],
)
def test_spellings_that_mean_the_same(file: Path, text: str) -> None:
    file.write_text(GT)
    expected = read_tracks(file, ground_truth=True)
    file.write_bytes(text.encode())
    found = read_tracks(file, ground_truth=True)
    for name in ("frame", "id", "box", "mark", "label"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_frames_are_sorted_and_lines_of_one_frame_keep_their_order(file: Path) -> None:
    file.write_text("".join(reversed(GT.splitlines(keepends=True))))
    table = read_tracks(file, ground_truth=True)
    assert (table.frame.tolist(), table.id.tolist()) == ([1, 1, 3], [2, 4, 4])


@pytest.mark.parametrize("text", ["", "\n", "\n  \n\n"])
@pytest.mark.parametrize("ground_truth", [True, False])
def test_a_file_without_a_line_has_no_tracks(file: Path, text: str, ground_truth: bool) -> None:
    file.write_text(text)
    table = read_tracks(file, ground_truth=ground_truth, frames=5)
    assert (len(table), table.last_frame, table.box.shape) == (0, 0, (0, 4))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2,5,1,2,3,4,1,1", "expected 9 columns as on line 1, got 8"),
        ("2,5,1,2,3,4,1,1,1,1", "expected 9 columns as on line 1, got 10"),
        ("2 5 1 2 3 4 1 1 1", "expected 9 columns as on line 1, got 1"),
        ("2,5,1,2,3,,1,1,1", "expected a number in column 6 (height), got ''"),
        ("2,5,1,2,three,4,1,1,1", "expected a number in column 5 (width), got 'three'"),
        ("2,5,1,2,3,4,1,1,0x10", "expected a number in column 9, got '0x10'"),
        ("2,5,1,nan,3,4,1,1,1", "top: expected a finite number, got nan"),
        ("2,5,1,2,inf,4,1,1,1", "width: expected a finite number, got inf"),
        ("nan,5,1,2,3,4,1,1,1", "frame: expected a finite number, got nan"),
        ("2,5,1,2,3,4,1,nan,1", "class: expected a finite number, got nan"),
        ("-2,5,1,2,3,4,1,1,1", "frame: expected a whole number from 1, got -2"),
        ("0,5,1,2,3,4,1,1,1", "frame: expected a whole number from 1, got 0"),
        ("1.5,5,1,2,3,4,1,1,1", "frame: expected a whole number from 1, got 1.5"),
        ("1e300,5,1,2,3,4,1,1,1", "frame: expected a whole number from 1, got 1e+300"),
        ("8,5,1,2,3,4,1,1,1", "frame: expected at most seqLength 7, got 8"),
        ("2,5.5,1,2,3,4,1,1,1", "id: expected a whole number, got 5.5"),
        ("2,1e17,1,2,3,4,1,1,1", "id: expected a whole number, got 1e+17"),
        ("2,-1,1,2,3,4,1,1,1", "id: expected an identity from 0, got -1; are these detections, not tracks?"),
        ("1,2,1,2,3,4,1,1,1", "expected each id once a frame, got id 2 a second time in frame 1, first on line 2"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_line(file: Path, line: str, told: str) -> None:
    file.write_text(f"{GT}\n{line}\n5,9,1,2,3,4,1,1,1\n")
    with pytest.raises(ValueError, match=re.escape(f"{file}, line 5: {told}")) as error:
        read_tracks(file, ground_truth=True, frames=7)
    assert "\n" not in str(error.value)


def test_the_first_of_many_repeated_ids_is_told(file: Path) -> None:
    rows = ["2,8", "1,3", "1,4", "1,3", "2,8", "1,3"]
    file.write_text("".join(f"{row},0,0,9,9,1\n" for row in rows))
    with pytest.raises(ValueError, match="line 4: .* id 3 a second time in frame 1, first on line 2"):
        read_tracks(file)


@pytest.mark.parametrize(("ground_truth", "needed"), [(True, 8), (False, 7)])
def test_too_few_columns_names_those_that_are_needed(file: Path, ground_truth: bool, needed: int) -> None:
    file.write_text(",".join("1" * (needed - 1)) + "\n")
    names = "frame, id, left, top, width, height, conf"
    with pytest.raises(ValueError, match=f"line 1: expected at least {needed} columns .{names}.*, got {needed - 1}"):
        read_tracks(file, ground_truth=ground_truth)


def test_a_file_of_another_kind_is_refused_in_one_short_line(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match="line 1: expected") as error:
        read_tracks(file)
    assert len(str(error.value)) < 300 + len(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tracks(tmp_path / "none.txt")


def test_seqinfo_is_read_by_name_not_by_position(tmp_path: Path) -> None:
    info = tmp_path / "seqinfo.ini"
    info.write_text("; made by hand\n[Other]\nseqLength=3\n[Sequence]\nimDir=50%img\nSEQLENGTH = 600 \nname=a\n")
    assert sequence_length(info) == 600


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"expected a section \[Sequence\] with seqLength"),
        ("seqLength=5\n", r"expected a section \[Sequence\] with seqLength"),
        ("[Sequence]\nname=a\n", r"expected a section \[Sequence\] with seqLength"),
        ("[Sequence]\nseqLength=many\n", "expected seqLength to be a whole number from 1, got 'many'"),
        ("[Sequence]\nseqLength=0\n", "expected seqLength to be a whole number from 1, got '0'"),
        ("[Sequence]\nseqLength=\n", "expected seqLength to be a whole number from 1, got ''"),
        ("[Sequence\nseqLength=4\n", r"expected a section \[Sequence\] with seqLength"),
    ],
)
def test_a_broken_seqinfo_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    info = tmp_path / "seqinfo.ini"
    info.write_text(text)
    with pytest.raises(ValueError, match=told) as error:
        sequence_length(info)
    assert str(error.value).startswith(str(info))
    assert "\n" not in str(error.value)
