"""What the tests of video in and out are made of: small videos of bright boxes, and a detector that finds those."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from svm_ext import StreamMemory, create_model
from svm_ext.models.detections import Detections
from svm_ext.stream.prepare import MEAN, STD

DATA = Path(__file__).parents[2] / "shared" / "data"
SIZE = (160, 96)  # width and height of the scenes
# A detector that is built and run in milliseconds: overrides of svit_tiny_mot.
TINY = dict(width=64, heads=2, layers=4, conv_blocks=(3,), stages=(0, 1, 2, 3), neck_channels=16, csp_blocks=1)

TINY_ACTIONS = dict(  # the same for a classifier: overrides of svit_tiny_action
    width=64,
    heads=2,
    layers=4,
    stages=(0, 1, 2, 3),
    outputs=(3,),
    input_resolution=32,
    window_size=2,
    num_classes=3,
    clip_frames=4,
    decoder_layers=1,
)


def data_file(name: str) -> Path:
    """The path of a real video; without it the test is skipped aloud, or fails where data is required."""
    found = DATA / name
    if not found.exists():
        message = f"DATA MISSING: no {name} in {DATA}"
        required = os.environ.get("CI") == "true" or os.environ.get("SVM_EXT_REQUIRE_DATA") == "1"
        (pytest.fail if required else pytest.skip)(message)
    return found


def picture(boxes: Sequence[Sequence[float]], size: tuple[int, int] = SIZE, shade: int = 40) -> np.ndarray:
    """A dark picture with bright boxes x1, y1, x2, y2."""
    image = np.full((size[1], size[0], 3), shade, dtype=np.uint8)
    for left, top, right, bottom in np.asarray(boxes, dtype=int).reshape(-1, 4):
        image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 240
    return image


def walk(frames: int, size: tuple[int, int] = SIZE, walkers: int = 2, seed: int = 0) -> Iterator[np.ndarray]:
    """Pictures in which boxes walk from side to side, each on a lane of its own, at a speed of its own."""
    rng = np.random.default_rng(seed)
    lane = size[1] / walkers
    starts, speeds = rng.uniform(0, size[0], walkers), rng.uniform(1, 3, walkers)
    for frame in range(frames):
        x = (starts + speeds * frame) % (size[0] - 20)
        yield picture([[at, lane * k + 4, at + 16, lane * (k + 1) - 6] for k, at in enumerate(x)], size)


def noise(frames: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Iterator[np.ndarray]:
    """Pictures that all take as many bytes, so that half of a file is half of its frames."""
    rng = np.random.default_rng(seed)
    for _ in range(frames):
        yield rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    fps: int = 25,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    format: str | None = None,
    **options: str,
) -> Path:
    """Encode pictures, nearly without loss, at these times or at so many a second."""
    import av

    ticks = 90_000 if codec == "libx264" else 1000  # a second; MPEG-4 counts to 65,535 at most
    quality = {"crf": "10", "preset": "ultrafast"} if codec == "libx264" else {"b": "4000000"}
    muxing = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", format=format, options=muxing) as file:
        stream = file.add_stream(codec, rate=fps, options={**quality, **options})
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, ticks)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round((index / fps if times is None else times[index]) * ticks)
            frame.time_base = Fraction(1, ticks)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_scene(path: Path, frames: int = 30, size: tuple[int, int] = SIZE, seed: int = 0, **how: Any) -> Path:
    """A video of boxes that walk."""
    return write_video(path, walk(frames, size, seed=seed), **how)


class BrightDetector(nn.Module):
    """Finds bright boxes, and keeps a memory as a real detector does.

    Remembers the size of every batch it was given. What it appends to the memory tells the frame: the mean
    brightness of its picture.
    """

    strides = (8, 16, 32)

    def __init__(self, score: float = 0.9, frames: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.score, self.frames = score, frames
        self.batches: list[int] = []
        self.memories: list[StreamMemory] = []
        self.eval()

    def new_memory(self, streams: int, image_size: tuple[int, int], **options: Any) -> StreamMemory:
        options = {"frames": self.frames, **options}
        self.memories.append(StreamMemory(1, streams, 1, 1, 32, window=2, **options))
        return self.memories[-1]

    def forward(self, frames: Tensor, memory: StreamMemory, streams: Tensor) -> list[Detections]:
        self.batches.append(len(frames))
        means = frames.mean((1, 2, 3)).to(memory.dtype)[:, None, None, None].expand(-1, 1, 4, 32)
        memory.append(0, means, means, streams)
        memory.advance(streams)
        return [self.find(frame) for frame in frames]

    def find(self, frame: Tensor) -> Detections:
        pixels = frame * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]  # [3, h, w]
        places, _ = ndimage.label(pixels.mean(0).numpy() > 150)
        found = [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in ndimage.find_objects(places)]
        boxes = torch.tensor(found, dtype=torch.float32).reshape(-1, 4)
        return Detections(boxes, torch.full((len(boxes),), self.score), torch.zeros(len(boxes), dtype=torch.int64))


def tracks_of(results: Iterable[Any]) -> list[tuple[int, list[int], list[list[float]]]]:
    """Frame, ids and boxes of every result, to compare."""
    return [(it.index, it.tracks.ids.tolist(), it.tracks.boxes.round(decimals=3).tolist()) for it in results]


def small_model(**changes) -> nn.Module:
    """The real model at a size for tests, its temporal branches open."""
    torch.manual_seed(0)
    options = {**TINY, "memory_frames": 3, "score_threshold": 0.0, **changes}
    model = create_model("svit_tiny_mot", **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("alpha"):
                parameter.fill_(0.5)  # what memory says must show
    return model
