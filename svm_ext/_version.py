"""The version, in one place; the build reads it as text."""

__version__ = "0.1.0"
