"""Sources: every kind of file and folder, in the right order, at the right times, whole or damaged."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svm_ext.stream.sources import Frame, PictureFiles, VideoFile, in_order, open_source, read_picture
from video_kit import DATA, SIZE, data_file, noise, picture, walk, write_scene, write_video


def read(spec: str | Path) -> tuple[list[Frame], str | None]:
    with open_source(spec) as source:
        return list(source), source.problem


def save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


# Files


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264")]
)
def test_a_file_gives_its_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, walk(20), codec=codec)
    with open_source(path) as source:
        assert (source.name, source.size, source.live) == ("a", SIZE, False)
        assert source.fps == pytest.approx(25)
        frames = list(source)
        assert source.problem is None
    assert [frame.index for frame in frames] == list(range(20))
    for frame, image in zip(frames, walk(20), strict=True):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - image).mean() < 6
    steps = np.diff([frame.time for frame in frames])
    assert np.allclose(steps, 0.04, atol=2e-3)


def test_the_length_is_what_the_container_promises(tmp_path: Path) -> None:
    assert open_source(write_scene(tmp_path / "a.mp4", 20)).length == 20
    assert open_source(write_scene(tmp_path / "a.mkv", 20)).length == 20


def test_a_source_tells_itself_in_a_line(tmp_path: Path) -> None:
    assert str(open_source(write_scene(tmp_path / "yard.mp4", 20))) == "yard  160x96  25 fps  20 frames"


def test_irregular_times_come_as_they_are(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.51, 2.0]
    frames, _ = read(write_video(tmp_path / "a.mp4", walk(5), times=times))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-4)


def test_the_first_frame_need_not_be_at_zero(tmp_path: Path) -> None:
    frames, problem = read(write_video(tmp_path / "a.mp4", walk(5), times=[3 + k / 25 for k in range(5)]))
    assert frames[0].time == pytest.approx(3)
    assert problem is None


def test_frames_that_refer_forward_come_in_order_of_display(tmp_path: Path) -> None:
    """An AVI file has no times of display; from those that a library makes up, frames would jump back and forth."""
    path = write_video(tmp_path / "a.avi", walk(30), codec="libx264", bf="3", preset="medium")
    frames, _ = read(path)
    assert [frame.time for frame in frames] == pytest.approx([k / 25 for k in range(30)], abs=1e-3)
    for frame, image in zip(frames, walk(30), strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 6


def test_a_file_name_may_look_like_an_address_or_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rtsp:door.mp4", "shot[1].mp4", "50%.mp4", "a b.mp4"):
        write_scene(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
        assert len(read(name)[0]) == 3


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_scene(tmp_path / "a.mp4", 3)
    assert len(read("~/a.mp4")[0]) == 3


def test_closing_ends_the_frames_and_the_file(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", 20)
    opened = len(os.listdir("/proc/self/fd"))
    source = open_source(path)
    frames = iter(source)
    next(frames)
    source.closing.set()
    assert list(frames) == []
    source.close()
    source.close()  # as often as one likes
    assert len(os.listdir("/proc/self/fd")) == opened


def test_sound_is_passed_over(tmp_path: Path) -> None:
    """A sound track that lasts longer than the video does not make the video look cut."""
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        video, sound = file.add_stream("mpeg4", rate=25), file.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        for image in walk(10):
            file.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(video.encode(None))
        for start in range(0, 16000, 4000):
            chunk = av.AudioFrame.from_ndarray(np.zeros((1, 4000), dtype=np.int16), format="s16", layout="mono")
            chunk.sample_rate, chunk.pts = 8000, start
            file.mux(sound.encode(chunk))
    frames, problem = read(path)
    assert (len(frames), problem) == (10, None)


# Damage


def test_a_file_that_was_cut_gives_what_is_left(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", noise(60), movflags="faststart").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    frames, problem = read(cut)
    assert 20 < len(frames) < 50
    assert "cut short" in problem
    assert "cut.mp4" in problem
    assert f"{len(frames)} frames read" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_other_containers_too(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, noise(60), codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, problem = read(path)
    assert 15 < len(frames) < 45
    assert "cut short" in problem


def test_a_damaged_middle_is_skipped_and_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", noise(60), movflags="faststart", g="10")
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000):
        data[at] = 255
    path.write_bytes(data)
    frames, problem = read(path)
    assert 40 < len(frames) < 60  # what refers to the damage is lost up to the next key frame, what follows is not
    assert "damaged packet" in problem
    assert f"{len(frames)} frames read" in problem
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(1000)], ids=["empty", "text", "zeros"])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"source: expected a video, got .*a\.mp4") as error:
        open_source(path)
    assert "\n" not in str(error.value)


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", 60)  # the index is at the end
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="does not open"):
        open_source(path)


def test_a_video_without_one_frame_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", 10, movflags="faststart")
    data = path.read_bytes()
    at = data.index(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(ValueError, match="without one frame to decode"):
        open_source(path)


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", walk(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(ValueError, match="codec"):
        open_source(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    with pytest.raises(ValueError, match="holds no pictures"):
        open_source(path)


def test_another_resolution_in_mid_stream_is_an_error_that_names_the_frame(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "1.ts", 12)
    second = write_scene(tmp_path / "2.ts", 12, size=(192, 128))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    source = open_source(both)
    seen = []
    with pytest.raises(ValueError, match=r"expected 160x96 throughout, got 192x128 from frame 12 of") as error:
        seen.extend(source)
    assert "\n" not in str(error.value)
    assert [frame.index for frame in seen] == list(range(12))


@pytest.mark.parametrize("missing", ["none.mp4", "none/", "none*.png", "none"])
def test_what_is_not_there_is_told(tmp_path: Path, missing: str) -> None:
    with pytest.raises(FileNotFoundError, match="which is not there; check the path"):
        open_source(tmp_path / missing)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", 3)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(OSError, match="Permission denied"):
        open_source(path)


# Pictures


def test_a_folder_is_read_in_the_order_people_count(tmp_path: Path) -> None:
    for number in (10, 2, 1, 33):
        save(tmp_path / f"shot{number}.png", picture([], shade=number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".shot0.png").write_text("hidden")
    with open_source(tmp_path) as source:
        frames = list(source)
        assert (source.length, source.size, source.name) == (4, SIZE, tmp_path.name)
    assert [frame.image[0, 0, 0] for frame in frames] == [1, 2, 10, 33]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12])


def test_a_pattern_is_a_video_too(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / f"left_{number}.png", picture([], shade=number))
        save(tmp_path / f"right_{number}.png", picture([], shade=100 + number))
    with open_source(tmp_path / "left_*.png") as source:
        assert source.name == "left"
        assert [frame.image[0, 0, 0] for frame in source] == list(range(12))
    assert len(read(tmp_path / "**.png")[0]) == 24


def test_a_single_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture([[10, 10, 30, 40]]))
    frames, problem = read(path)
    assert problem is None
    assert np.array_equal(frames[0].image, picture([[10, 10, 30, 40]]))


def test_a_motchallenge_sequence_is_opened_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "MOT99-01"
    (folder / "img1").mkdir(parents=True)
    for number in (1, 2, 3):
        save(folder / "img1" / f"{number:06}.png", picture([], shade=number))
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=MOT99-01\nframeRate=14\nseqLength=3\n")
    for spec in (folder, folder / "img1"):
        source = open_source(spec)
        assert (source.name, source.fps, source.length) == ("MOT99-01", 14, 3)
        assert [frame.time for frame in source] == pytest.approx([0, 1 / 14, 2 / 14])


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "1", "I;16"):
        if mode == "I;16":
            Image.fromarray(np.full((8, 6), 1000, dtype=np.uint16)).save(tmp_path / "a.png")
        else:
            Image.new("RGB", (6, 8), (200, 200, 200)).convert(mode).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").shape == (8, 6, 3)


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path: Path) -> None:
    image = Image.fromarray(picture([[0, 0, 20, 10]]))
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = read_picture(tmp_path / "a.jpg")
    assert found.shape == (SIZE[0], SIZE[1], 3)
    assert found[5, -5].min() > 200


def test_a_damaged_picture_is_left_out_and_told(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"{number}.png", picture([], shade=number))
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    frames, problem = read(tmp_path)
    assert [frame.index for frame in frames] == [1, 3, 4]  # the others keep their places in time
    assert "2 pictures do not open and were left out: 0.png, 2.png" in problem


def test_pictures_of_two_sizes_are_refused_where_they_change(tmp_path: Path) -> None:
    save(tmp_path / "1.png", picture([]))
    save(tmp_path / "2.png", picture([], size=(64, 64)))
    frames = iter(open_source(tmp_path))
    next(frames)
    with pytest.raises(ValueError, match=r"expected 160x96 throughout, got 64x64 in .*2\.png"):
        next(frames)


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected pictures"):
        open_source(tmp_path)
    (tmp_path / "1.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"got 1\.png, which do not open"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (["b10", "b9", "a100"], ["a100", "b9", "b10"]),
        (["010", "9", "8"], ["8", "9", "010"]),
        (["x1y10", "x1y2", "x01y1"], ["x01y1", "x1y2", "x1y10"]),
        (["B1", "a2", "1"], ["1", "a2", "B1"]),
    ],
)
def test_order(given: list[str], ordered: list[str]) -> None:
    assert [str(path) for path in in_order([Path(name) for name in given])] == ordered


# Real videos

PROBE = list(csv.DictReader((DATA / "video_probe.csv").open())) if (DATA / "video_probe.csv").exists() else []
BRIEF = [row for row in PROBE if int(row["frames_decoded"]) < 350 and row["width"] != "1920"]
LONG = [row for row in PROBE if row not in BRIEF]


def test_the_probed_videos_are_there() -> None:
    data_file("video_probe.csv")
    assert len(PROBE) == 40


def check_probed(row: dict[str, str]) -> None:
    """Frame count, size, rotation and first time stamp are those that ffprobe tells."""
    with open_source(data_file(row["file"])) as source:
        times, shape = [], None
        for frame in source:
            times.append(frame.time)
            shape = frame.image.shape
        assert len(times) == int(row["frames_decoded"])
        width, height = int(row["width"]), int(row["height"])
        upright = (height, width) if row["rotation"] in ("90", "-90") else (width, height)
        assert source.size == upright
        assert shape == (*upright[::-1], 3)
        assert times[0] == pytest.approx(float(row["first_pts_s"]), abs=1e-6)
        assert times == sorted(set(times))
        assert source.length == pytest.approx(len(times), abs=1)
        damaged = row["file"].endswith("decord_corrupted.mp4")
        assert (source.problem or "").count("1 damaged packet skipped; 49 frames read") == damaged
        assert damaged or source.problem is None


@pytest.mark.parametrize("row", BRIEF, ids=lambda row: row["file"])
def test_a_real_video_is_what_ffprobe_says(row: dict[str, str]) -> None:
    check_probed(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", LONG, ids=lambda row: row["file"])
def test_a_long_real_video_is_what_ffprobe_says(row: dict[str, str]) -> None:
    check_probed(row)


def test_a_turned_video_stands_upright() -> None:
    """A telephone held upright: the stored pictures lie on their left side. The letters on the keys stand then."""
    import av

    path = data_file("codec_edge_cases/decord_video_90.mov")
    with av.open(str(path)) as file:
        stored = next(file.decode(video=0)).to_ndarray(format="rgb24")
    [first, *_] = open_source(path)
    assert stored.shape == (320, 568, 3)
    assert np.array_equal(first.image, np.rot90(stored, -1))
    assert first.image.flags["C_CONTIGUOUS"]


def test_the_mot_folder_of_real_pictures() -> None:
    with open_source(data_file("mot17_mini/MOT17-04-FRCNN")) as source:
        assert (source.name, source.size, source.length) == ("MOT17-04-FRCNN", (1920, 1080), 8)
        assert sum(1 for _ in source) == 8


def test_a_real_video_that_is_cut(tmp_path: Path) -> None:
    whole = data_file("people_videos/one-by-one-person.mp4")
    cut = tmp_path / "cut.mp4"
    with whole.open("rb") as source, cut.open("wb") as target:
        target.write(source.read(whole.stat().st_size // 8))
    frames, problem = 0, None
    with open_source(cut) as source:
        for _ in source:
            frames += 1
        problem = source.problem
    assert 50 < frames < 400
    assert "of 139.4 s, it was cut short" in problem


def test_kinds() -> None:
    assert isinstance(open_source(data_file("codec_edge_cases/animated.gif")), VideoFile)
    assert isinstance(open_source(data_file("mot17_mini/MOT17-02-FRCNN/img1")), PictureFiles)
