"""The version of this package."""

from pathlib import Path

__version__ = "0.1.0"

SOURCES = Path(__file__).parent
"""Folder of the package's source files."""
