"""Pictures a second that trainings are fed with, on one core: generated scenes, reading, augmentation.

    python benchmarks/bench_data.py --quick          some seconds
    python benchmarks/bench_data.py --json FILE      what is quoted, about a minute

Times are the process's own, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from svm_ext._files import whole_file
from svm_ext.bench import machine
from svm_ext.data.augment import AugmentConfig, AugmentedClips
from svm_ext.data.clips import ClipDataset
from svm_ext.data.export import write_scenes
from svm_ext.data.mot import read_videos
from svm_ext.data.scenes import Scene, SceneConfig, SceneDataset
from svm_ext.data.videos import Clip

CLIP = 4  # frames
SIZES = ((192, 320), (320, 576))


class InMemory:
    """Clips that are drawn once; what is measured is what comes after."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> Clip:
        return self.clips[key[1]]


def rate(step: Callable[[int], object], pictures: int, rounds: int) -> float:
    """Pictures a second of one core's own time, after a first round that is not counted."""
    for number in range(rounds):
        step(number)
    start = time.process_time()
    for number in range(rounds, 2 * rounds):
        step(number)
    return pictures * rounds / (time.process_time() - start)


def rows(quick: bool) -> Iterator[tuple[str, float]]:
    """What is measured, and its pictures a second."""
    rounds = 6 if quick else 60
    for size in SIZES:
        config, name = SceneConfig(size=size), f"{size[0]}x{size[1]}"
        scene = Scene(1, config)
        yield f"scene, frame by frame, {name}", rate(scene.__getitem__, 1, 5 * rounds)
        scenes = SceneDataset(1, config, clip_frames=CLIP, length=10_000, places=8)
        yield f"scenes, clip by clip, {name}", rate(scenes.__getitem__, CLIP, rounds)
        clips = InMemory([scenes[number] for number in range(20)])
        augmented = AugmentedClips(clips, AugmentConfig.for_size(*size))
        yield f"augmentation, {name}", rate(lambda number, of=augmented: of[number, number % 20], CLIP, rounds)
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(folder, SceneConfig(size=SIZES[1]), frames=20)
        read = ClipDataset(read_videos(folder), clip_frames=CLIP, strides=(1, 1), kept_megabytes=0)
        yield f"reading JPEG, {name}", rate(lambda number: read[number % 16], CLIP, rounds)
    large = [(torch.randint(0, 256, (2, 3, 1080, 1920), dtype=torch.uint8), _boxes()) for _ in range(5)]
    recipe = AugmentedClips(InMemory(large), AugmentConfig())
    yield "augmentation, 1080x1920 to 800x1440", rate(lambda number: recipe[number, number % 5], 2, max(rounds // 6, 1))


def _boxes() -> list[dict[str, torch.Tensor]]:
    corners = 500 * torch.rand(20, 2)
    return [{"boxes": torch.cat([corners, corners + 80], dim=1)}] * 2


def main(arguments: list[str]) -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures and what they were taken on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/bench_data.py", *arguments])
    result = {"schema": 1, "machine": machine.describe("cpu", command), "pictures_per_second": {}}
    for name, speed in rows(options.quick):
        result["pictures_per_second"][name] = speed
        print(f"{name:40}{speed:8.1f} pictures/s", flush=True)
    if options.json:
        with whole_file(options.json) as part:
            part.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
