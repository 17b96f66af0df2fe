"""FrameResult: what is known about one frame of one stream."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..models.detections import Detections
    from ..tracking import Tracks


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the frame step, which all frames of the batch share."""

    prepare: float  # scaling and normalising
    detect: float  # the model
    track: float

    @property
    def total(self) -> float:
        """Milliseconds from the pictures to the tracks."""
        return self.prepare + self.detect + self.track


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found in one frame of a stream; boxes are x1, y1, x2, y2 in the video's pixels, on the CPU."""

    stream: Hashable  # the stream's name
    index: int  # of the frame in its source
    time: float  # seconds, as the source tells it
    tracks: Tracks  # ids, boxes, scores, labels
    detections: Detections  # everything the model found, best first
    timing: Timing
    remembered: int  # frames in the stream's memory, this one among them
    image: np.ndarray = field(repr=False)  # uint8 [H, W, 3], RGB

    def to_supervision(self) -> Any:
        """Return the tracks as `supervision.Detections`, for the annotators and zones of that library."""
        try:
            import supervision
        except ImportError:
            raise ImportError(
                "to_supervision: the package supervision is not installed; type `pip install supervision`"
            ) from None
        return supervision.Detections(
            xyxy=np.asarray(self.tracks.boxes, dtype=np.float32).reshape(-1, 4),
            confidence=np.asarray(self.tracks.scores, dtype=np.float32),
            class_id=np.asarray(self.tracks.labels, dtype=np.int64),
            tracker_id=np.asarray(self.tracks.ids, dtype=np.int64),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the frame and its tracks as plain numbers and lists, as the JSON lines have them."""
        columns = (np.asarray(values).tolist() for values in _columns(self.tracks))
        tracks = [
            {"id": number, "box": [round(side, 2) for side in box], "score": round(score, 4), "label": label}
            for number, box, score, label in zip(*columns, strict=True)
        ]
        return {"frame": self.index, "time": round(self.time, 6), "tracks": tracks}


def _columns(tracks: Tracks) -> tuple[Any, ...]:
    return tracks.ids, tracks.boxes, tracks.scores, tracks.labels
