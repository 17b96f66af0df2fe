"""Does memory pay on real pixels? PETS09-S2L1: a square seen by a fixed camera, 795 frames, seven a second.

    python benchmarks/study_pets.py --data ../shared/data/pets09_s2l1 --output runs/pets

Frames 1 to 500 train, 501 to 795 test. What is compared, and from where it starts, is told in study.py. The folder
of the data has the video, video_480x360.avi, and its ground truth, gt/gt_480x360.txt; both parts of it are written
to the output as MOTChallenge folders. Boxes that the ground truth marks with 0 are neither trained with nor scored:
the rules of MOT15. About twenty minutes on two cores; after an interrupt the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from study import Study, add_arguments, carry_out_and_tell

from svm_ext._files import whole_file
from svm_ext.data.mot import lines_of
from svm_ext.stream.sources import Frame, open_source

VIDEO, TRUTH = "video_480x360.avi", "gt/gt_480x360.txt"
PARTS = {"train": range(1, 501), "test": range(501, 796)}  # frames, counted from 1
FPS = 7
STUDY = Study(
    settings={
        "height": 192,
        "width_pixels": 256,
        "clip_frames": 8,
        "strides": (1,),
        "sample": 0.15,  # of the frames starts a clip in an epoch
        "augment": False,  # the camera is the same
        "batch": 1,
        "epochs": 2,
        "learning_rate": 1e-3,
        "alpha_init": 0.1,
        "ema_horizon": 50.0,
        "memory_frames": 32,
        "report_every": 25,
        "save_every": 25,
    },
    benchmark="MOT15",
)


def split(data: Path, output: Path) -> dict[str, Path]:
    """Write both parts as folders of one sequence each; parts that are there stay as they are."""
    folders = {part: output / part for part in PARTS}
    missing = {part: folder for part, folder in folders.items() if not (folder / "PETS09/seqinfo.ini").exists()}
    if not missing:
        return folders
    for folder in missing.values():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "PETS09/img1").mkdir(parents=True)
        (folder / "PETS09/gt").mkdir()
    rows = [(int(float(text.split(",", 1)[0])), text.split(",", 1)[1]) for _, text in lines_of(data / TRUTH)]
    size = _write_pictures(data / VIDEO, missing)
    for part, folder in missing.items():
        frames = PARTS[part]
        told = [f"{frame - frames.start + 1},{rest}\n" for frame, rest in rows if frame in frames]
        (folder / "PETS09/gt/gt.txt").write_text("".join(told))
        with whole_file(folder / "PETS09/seqinfo.ini") as info:
            info.write_text(_info(len(frames), size))
    return folders


def _write_pictures(video: Path, folders: dict[str, Path]) -> tuple[int, int]:
    """Write the frames of a video to the parts that want them; return width and height."""
    with open_source(video) as source:
        last = 0
        for frame in _numbered(source):
            last = frame.index + 1
            for part, folder in folders.items():
                if last in PARTS[part]:
                    picture = folder / f"PETS09/img1/{last - PARTS[part].start + 1:06}.jpg"
                    Image.fromarray(frame.image).save(picture, quality=95)
        needed = max(PARTS[part].stop - 1 for part in folders)
        if last < needed:
            raise ValueError(f"data: expected {needed} frames in {video.name}, got {last}; is the file damaged?")
        return source.size


def _numbered(source: Iterable[Frame]) -> Iterable[Frame]:
    return (frame for frame in source if frame.index < max(part.stop for part in PARTS.values()))


def _info(length: int, size: tuple[int, int]) -> str:
    return (
        f"[Sequence]\nname=PETS09\nimDir=img1\nframeRate={FPS}\nseqLength={length}\n"
        f"imWidth={size[0]}\nimHeight={size[1]}\nimExt=.jpg\n"
    )


def main(arguments: list[str]) -> None:
    """Split, train, score, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of video and ground truth")
    add_arguments(parser)
    args = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/study_pets.py", *arguments])
    carry_out_and_tell(STUDY, args, split(args.data, args.output), command)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the trainings too, as Ctrl-C does
    main(sys.argv[1:])
