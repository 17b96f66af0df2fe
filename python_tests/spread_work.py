"""Work for processes to share; they import it by name."""

from __future__ import annotations

import os
import signal


def double(number: int) -> int:
    """Succeed."""
    return 2 * number


def die(number: int) -> int:
    """End the process, as the system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    """Raise what a user may read."""
    raise ValueError(f"number: expected another, got {number}")
