"""Counts that add up over sequences."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

Sums = TypeVar("Sums")


def total(parts: list[Sums]) -> Sums:
    """Add dataclasses of one kind, field by field: scores over many sequences come from the sums of their counts."""
    kind = type(parts[0])
    return kind(*(sum(getattr(part, field.name) for part in parts) for field in fields(kind)))  # type: ignore[arg-type]
