"""From detections to tracks: ByteTrack's association, live, and the filling of gaps afterwards."""

from __future__ import annotations

from .byte_tracker import ByteTracker, TrackerBank, TrackerRules
from .interpolate import interpolate_tracks
from .tracks import Tracks

__all__ = ["ByteTracker", "TrackerBank", "TrackerRules", "Tracks", "interpolate_tracks"]
