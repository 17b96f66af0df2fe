"""Videos as folders of numbered pictures, as MOTSynth's annotations want them: `convert_motsynth_frames`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ._files import Told, require_folder, silent, spread

_QUALITY = 95  # of JPEG
_PART = ".img1.part"


@dataclass(frozen=True)
class Extracted:
    """What became of one video."""

    name: str
    frames: int
    kept: bool = False  # its pictures were there already
    problem: str | None = None  # what was wrong with the video, in a line


def convert_motsynth_frames(
    source: str | Path, output: str | Path, *, jobs: int = 1, on_video: Told = silent
) -> list[Extracted]:
    """Write every video in a folder to OUTPUT/NAME/img1/000001.jpg and so on.

    A video whose folder img1 is there already is kept as it is; a folder takes that name when it is complete. A
    damaged video gives the pictures up to the damage, and is told.
    """
    source, output = Path(source), Path(output)
    require_folder("input", source)
    videos = sorted(entry for entry in source.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if not videos:
        raise FileNotFoundError(f"input: expected videos in {str(source)!r}, got none")
    names = [video.stem for video in videos]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"input: expected videos of different names, got {twice[0]!r} twice; rename one")
    found = []
    for result in spread(jobs, extract, videos, [output / name for name in names]):
        on_video(result.name, len(found), len(videos))
        found.append(result)
    return found


def extract(video: Path, folder: Path) -> Extracted:
    """Write the pictures of one video to the folder's img1."""
    from PIL import Image

    from ...stream.sources import open_source

    pictures, part = folder / "img1", folder / _PART
    if pictures.is_dir():
        return Extracted(video.stem, sum(1 for _ in pictures.glob("*.jpg")), kept=True)
    try:
        opened = open_source(video)
    except (ValueError, OSError) as error:
        return Extracted(video.stem, 0, problem=str(error))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    count, problem = 0, None
    with opened as frames:
        try:
            for frame in frames:
                count += 1
                Image.fromarray(frame.image).save(part / f"{count:06}.jpg", quality=_QUALITY)
        except ValueError as error:  # such as another size in the middle
            problem = str(error)
        problem = problem or frames.problem
    part.rename(pictures)
    return Extracted(video.stem, count, problem=problem)
