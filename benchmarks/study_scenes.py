"""Does memory pay where one picture cannot tell? Generated scenes with statues, which are no people.

    python benchmarks/study_scenes.py --output runs/scenes

Statues look like people and never move, walkers vanish behind pillars and in blur: what is asked for is to be seen
in time alone. Training and test have other streets, people and statues. What is compared, and from where it starts,
is told in study.py; there were no statues in what the models start from. About forty minutes on two cores; after an
interrupt the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from study import Study, add_arguments, carry_out_and_tell

from svm_ext.data.export import write_scenes
from svm_ext.data.rendered import render
from svm_ext.data.scenes import SceneConfig, SceneDataset

SCENES = SceneConfig(size=(160, 256), statues=3, far=7.0)
VISIBLE = 0.2  # share of a person that must be to be seen: others need not be found
SEED, CLIPS = 7, 600  # of the training
HELD_OUT, TEST_SCENES, TEST_FRAMES = (1 << 31) + 1000, 5, 120  # clips draw their seeds from smaller numbers
STUDY = Study(
    settings={
        "height": SCENES.size[0],
        "width_pixels": SCENES.size[1],
        "clip_frames": 8,
        "batch": 1,
        "epochs": 1,
        "learning_rate": 1e-3,
        "alpha_init": 0.1,
        "ema_horizon": 150.0,
        "memory_frames": 32,
        "report_every": 25,
        "save_every": 50,
    },
    benchmark="MOT17",
)


def draw_scenes(output: Path) -> dict[str, Path]:
    """Draw the clips for the training and the videos for the test; what is there stays as it is."""
    folders = {"train": output / "train", "test": output / "test"}
    clips = SceneDataset(
        SEED, SCENES, clip_frames=8, length=CLIPS, strides=(1, 4), places=100_000, min_visibility=VISIBLE
    )
    render(clips, folders["train"], size=SCENES.size, workers=2, told=_tell)
    write_scenes(folders["test"], SCENES, seed=HELD_OUT, scenes=TEST_SCENES, frames=TEST_FRAMES, min_visibility=VISIBLE)
    return folders


def _tell(drawn: int) -> None:
    if drawn % 50 == 0:
        print(f"{drawn} of {CLIPS} clips drawn", flush=True)


def main(arguments: list[str]) -> None:
    """Draw, train, score, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/study_scenes.py", *arguments])
    carry_out_and_tell(STUDY, args, draw_scenes(args.output), command)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the trainings too, as Ctrl-C does
    main(sys.argv[1:])
