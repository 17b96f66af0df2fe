"""Where frames come from: files, folders of pictures, cameras and addresses, all read in the same way."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import numpy as np

from ._decode import USUAL_FPS, Decoder

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
Spec = str | Path | int


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video, upright."""

    image: np.ndarray = field(repr=False)  # uint8 [H, W, 3], RGB
    time: float  # seconds, as the source tells it: the first frame of a file need not be at 0
    index: int  # counts the source's frames from 0, those too that nobody took


class Source:
    """A video that is being read: iterate once for its frames, and close it or use it as a context.

    `length` is how many frames the container promises, None where nobody can know; `problem` says in one line
    what was wrong with the video, as far as it was read; `live` sources come in their own time. `closing` is
    set when no more frames are wanted, which may be from another thread.
    """

    def __init__(
        self, name: str, size: tuple[int, int], fps: float | None, length: int | None = None, *, live: bool = False
    ) -> None:
        self.name, self.size, self.fps, self.length, self.live = name, size, fps, length, live
        self.problem: str | None = None
        self.closing = Event()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order, until the end or until the source is closed."""
        raise NotImplementedError

    def close(self) -> None:
        """Read no further, and let go of what is open; from the thread that reads, if another one does."""
        self.closing.set()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        """Return what there is to know: name, size, frames per second, frames."""
        width, height = self.size
        fps = f"{self.fps:.4g} fps" if self.fps else "-- fps"
        frames = "live" if self.live else f"{self.length or '--'} frames"
        return f"{self.name}  {width}x{height}  {fps}  {frames}"


class VideoFile(Source):
    """A video in a file, read to its end, or to where it is damaged beyond reading."""

    def __init__(self, path: Path) -> None:
        self._decoder = Decoder(f"file:{path}", str(path))
        super().__init__(path.stem, self._decoder.size, self._decoder.fps, self._decoder.length)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; what was wrong stands in `problem` afterwards."""
        try:
            for index, (image, seconds) in enumerate(self._decoder):
                yield Frame(image, seconds, index)
                if self.closing.is_set():
                    return
            self._sum_up()
        finally:
            self._decoder.close()

    def close(self) -> None:
        """Read no further, and close the file."""
        super().close()
        self._decoder.close()

    def _sum_up(self) -> None:
        if complaints := self._decoder.complaints():
            kept = f"{self._decoder.count} frames read"
            self.problem = f"{self._decoder.name}: {', '.join(complaints)}; {kept}"


class PictureFiles(Source):
    """Pictures in files as the frames of a video, in the order of the numbers in their names."""

    def __init__(self, name: str, paths: list[Path], fps: float | None = None) -> None:
        self._paths = paths
        first = next((picture for path in paths if (picture := _picture_or_none(path)) is not None), None)
        if first is None:
            raise ValueError(f"source: expected pictures, got {_some(paths)}, which do not open; check the files")
        super().__init__(name, first.shape[1::-1], fps, len(paths))

    def __iter__(self) -> Iterator[Frame]:
        """Yield the pictures; one that does not open is left out and told in `problem`."""
        unread: list[Path] = []
        for index, path in enumerate(self._paths):
            if self.closing.is_set():
                return
            image = _picture_or_none(path)
            if image is None:
                unread.append(path)
                self.problem = f"{self.name}: {len(unread)} pictures do not open and were left out: {_some(unread)}"
                continue
            if image.shape[1::-1] != self.size:
                raise ValueError(
                    f"source: expected {self.size[0]}x{self.size[1]} throughout, got {image.shape[1]}x{image.shape[0]}"
                    f" in {path}; track pictures of one size at a time"
                )
            yield Frame(image, index / (self.fps or USUAL_FPS), index)


def open_source(spec: Spec) -> Source:
    """Open a file, a folder of pictures, a pattern like 'shots/*.png', a camera by its number, or an address."""
    if isinstance(spec, int) or re.fullmatch(r"\d+|/dev/video\d+", str(spec)):
        from .live import open_camera

        return open_camera(int(str(spec).removeprefix("/dev/video")))
    if "://" in str(spec):
        from .live import open_address

        return open_address(str(spec))
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return PictureFiles(path.stem, [path]) if path.suffix.lower() in PICTURES else VideoFile(path)
    if found := [Path(name) for name in glob.glob(str(path), recursive=True)]:
        return PictureFiles(_name_of_pattern(path), in_order(found))
    raise FileNotFoundError(f"source: expected a video, got {spec}, which is not there; check the path")


def read_picture(path: Path) -> np.ndarray:
    """Return a picture from a file, uint8 [H, W, 3] RGB, turned as its camera was held."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise OSError(f"path: expected a picture, got {path}, which does not open ({error}); check the file") from error


def in_order(paths: list[Path]) -> list[Path]:
    """Return paths as people count: frame2 before frame10."""

    def key(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", str(path))
        return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts] + [(-1, str(path))]

    return sorted(paths, key=key)


def _folder(path: Path) -> PictureFiles:
    """Open a folder of pictures, or a MOTChallenge sequence, whose pictures lie in img1."""
    inner = path / "img1"
    folder = inner if inner.is_dir() else path
    found = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    if not found:
        kinds = ", ".join(PICTURES)
        raise ValueError(
            f"source: expected pictures ({kinds}) in the folder, got none in {folder}; name another folder"
        )
    info = folder.parent / "seqinfo.ini"
    rate = re.search(r"(?im)^frameRate\s*=\s*([\d.]+)", info.read_text()) if info.is_file() else None
    name = (folder.parent if folder.name == "img1" else folder).resolve().name
    return PictureFiles(name, in_order(found), float(rate[1]) if rate else None)


def _name_of_pattern(path: Path) -> str:
    plain = re.sub(r"[*?\[\]]+", "", path.stem).strip("-_. ")
    return plain or path.parent.resolve().name


def _picture_or_none(path: Path) -> np.ndarray | None:
    try:
        return read_picture(path)
    except OSError:
        return None


def _some(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (" and others" if len(paths) > 3 else "")
