"""Scores: tracks against ground truth as TrackEval gives them, detections as COCO does. NumPy and SciPy only."""

from __future__ import annotations

from .ap import AveragePrecision, DetectionResult
from .motchallenge import read_tracks
from .table import TrackTable
from .tracks import TrackResult, evaluate_tracks

__all__ = ["AveragePrecision", "DetectionResult", "TrackResult", "TrackTable", "evaluate_tracks", "read_tracks"]
