"""A model is run over annotated videos as if live, and scored by the same rules as files of tracks are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svm_ext.cli import eval_mot
from svm_ext.cli.main import main
from svm_ext.evaluate import evaluate_tracks
from svm_ext.evaluate import mot as mot_module
from svm_ext.evaluate.mot import MotPlan, evaluate_mot
from svm_ext.tracking import TrackerRules
from video_kit import BrightDetector, picture

SIZE = (96, 64)  # width and height
PLAN = MotPlan(size=SIZE)


def sequence(folder: Path, name: str, frames: int = 8, ids: bool = True, missing: int | None = None) -> list[list[int]]:
    """A MOTChallenge sequence with one or two walking squares; frame `missing` shows none."""
    from PIL import Image

    (folder / name / "img1").mkdir(parents=True)
    (folder / name / "gt").mkdir()
    rows = []
    for frame in range(frames):
        boxes = [[4 + 3 * frame, 8, 16 + 3 * frame, 30], [60 - 2 * frame, 36, 74 - 2 * frame, 60]]
        shown = [] if frame == missing else boxes
        Image.fromarray(picture(shown, SIZE)).save(folder / name / f"img1/{frame + 1:06}.png")
        for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
            rows.append([frame + 1, number if ids else -1, x1, y1, x2 - x1, y2 - y1, 1, 1, 1])
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (folder / name / "gt/gt.txt").write_text(text + "\n")
    (folder / name / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength={frames}\nimWidth={SIZE[0]}\nimHeight={SIZE[1]}\n"
    )
    return rows


def test_what_is_plain_to_see_is_found(tmp_path: Path) -> None:
    sequence(tmp_path, "A")
    sequence(tmp_path, "B", frames=5)
    result = evaluate_mot(BrightDetector().eval(), tmp_path, PLAN)
    assert list(result.detections) == ["A", "B", "COMBINED"]
    scores = result.as_dict()
    for name in scores:
        assert scores[name]["AP50"] == pytest.approx(1.0)
        assert scores[name]["MOTA"] == scores[name]["IDF1"] == 1.0
    assert scores["COMBINED"]["GT_Dets"] == 26
    assert result.frames_per_second > 0


def test_a_frame_that_shows_nothing_costs_what_it_should(tmp_path: Path) -> None:
    sequence(tmp_path, "A", missing=4)
    result = evaluate_mot(BrightDetector().eval(), tmp_path, PLAN).as_dict()["A"]
    assert (result["FN"], result["FP"], result["IDSW"]) == (2, 0, 0)
    assert result["MOTA"] == pytest.approx(1 - 2 / 16)
    assert result["AP50"] < 1


def test_it_agrees_with_the_scores_of_written_tracks(tmp_path: Path) -> None:
    """The same tracks by way of files: MOTChallenge text of two decimals."""
    sequence(tmp_path / "gt", "A", missing=2)
    plan, found = PLAN, {}
    [video] = mot_module._videos(tmp_path / "gt", None)
    found = mot_module._run(BrightDetector().eval(), video, plan)
    lines = [
        f"{frame},{int(number)},{box[0]:.2f},{box[1]:.2f},{box[2] - box[0]:.2f},{box[3] - box[1]:.2f},1,-1,-1,-1"
        for frame, (ids, boxes) in enumerate(zip(found.ids, found.boxes, strict=True), 1)
        for number, box in zip(ids, boxes, strict=True)
    ]
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred/A.txt").write_text("\n".join(lines) + "\n")
    by_files = evaluate_tracks(tmp_path / "gt", tmp_path / "pred")["A"]
    directly = evaluate_mot(BrightDetector().eval(), tmp_path / "gt", plan).as_dict()["A"]
    assert {name: directly[name] for name in by_files} == pytest.approx(by_files, abs=1e-3)


def test_without_identities_only_detections_are_scored(tmp_path: Path) -> None:
    picture_file = tmp_path / "a.png"
    from PIL import Image

    Image.fromarray(picture([[4, 8, 16, 30]], SIZE)).save(picture_file)
    told = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 8, 12, 22], "area": 264, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "pedestrian"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(told))
    result = evaluate_mot(BrightDetector().eval(), tmp_path, PLAN)
    assert result.tracks is None
    assert result.as_dict()["COMBINED"]["AP50"] == pytest.approx(1.0)


def test_rules_and_memory_reach_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequence(tmp_path, "A")
    kept = {}

    class Session(mot_module.StreamSession):
        def __init__(self, model, **options):
            kept.update(options)
            super().__init__(model, **options)

    monkeypatch.setattr(mot_module, "StreamSession", Session)
    rules = TrackerRules(high=0.95, init=0.95)
    scores = evaluate_mot(BrightDetector(score=0.9).eval(), tmp_path, MotPlan(3, SIZE, rules)).as_dict()["A"]
    assert (kept["memory"], kept["rules"], kept["size"]) == ({"frames": 3}, rules, SIZE)
    assert scores["FN"] == 16  # everything lies below the threshold


@pytest.mark.slow
def test_processes_change_nothing(tmp_path: Path) -> None:
    for name in "ABC":
        sequence(tmp_path, name, missing=3)
    ended = []
    one, two = (
        evaluate_mot(BrightDetector().eval(), tmp_path, PLAN, jobs=jobs, on_sequence=lambda *told: ended.append(told))
        for jobs in (1, 2)
    )
    assert one.as_dict() == two.as_dict()
    assert ended == 2 * [("A", 0, 3), ("B", 1, 3), ("C", 2, 3)]


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    sequence(tmp_path, "A")
    with pytest.raises(ValueError, match=r"sequences: expected names of A, got X"):
        evaluate_mot(BrightDetector().eval(), tmp_path, PLAN, sequences=["X"])
    with pytest.raises(ValueError, match="jobs: expected at least 1"):
        evaluate_mot(BrightDetector().eval(), tmp_path, PLAN, jobs=0)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the bright detector whatever the weights are called."""
    from svm_ext.stream import track

    monkeypatch.setattr(track, "find_model", lambda *_: (BrightDetector().eval(), True))


@pytest.mark.usefixtures("bright")
def test_the_command_compares_memories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence(tmp_path / "data", "A")
    options = ["--data", str(tmp_path / "data"), "--weights", "x", "--size", "96", "64", "--memory-frames", "1,4"]
    outputs = ["--json", str(tmp_path / "scores.json"), "--plot", str(tmp_path / "memory.png")]
    assert main(["eval", "mot", *options, *outputs]) == 0
    told = capsys.readouterr().out
    assert "a memory of 1 frames" in told
    assert "a memory of 4 frames" in told
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores.keys() == {"1", "4"}
    assert scores["4"]["COMBINED"]["MOTA"] == 1.0
    assert (tmp_path / "memory.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("bright")
def test_the_command_prints_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence(tmp_path / "data", "A")
    assert (
        main(["eval", "mot", "--data", str(tmp_path / "data"), "--weights", "x", "--size", "96", "64", "--json", "-"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["default"]["A"]["IDF1"] == 1.0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--memory-frames", "1,x"], "--memory-frames: expected numbers like"),
        (["--memory-frames", "0"], "--memory-frames: expected numbers like"),
        (["--plot", "a.png"], "--plot: expected several memories"),
        (["--plot", "a.txt", "--memory-frames", "1,2"], "--plot: expected a file name with .png or .svg"),
        (["--json", "nowhere/a.json"], "--json: expected a file in a folder that exists"),
        (["--set", "hihg=0.5"], "--set: expected a rule of the tracker"),
        (["--set", "high=much"], "--set: expected a number"),
        (["--size", "0", "5"], "--size: expected two sides"),
        ([], "weights"),
    ],
)
def test_bad_use_is_one_line(options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence(tmp_path / "data", "A")
    missing = str(tmp_path / "no weights.safetensors")
    assert main(["eval", "mot", "--data", str(tmp_path / "data"), "--weights", missing, *options]) == 2
    told = capsys.readouterr().err.strip()
    assert line in told
    assert len(told.splitlines()) == 1


def test_nan_is_null_in_json() -> None:
    plain = eval_mot._plain({"1": {"A": {"AP": float("nan"), "FP": 3}}})
    assert plain == {"1": {"A": {"AP": None, "FP": 3}}}
