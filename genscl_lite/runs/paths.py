"""Where things lie: the project's folder, its notebooks and presets, and the committed results."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"
RESULTS = PROJECT / "data" / "results"
"""Small files of finished runs that are committed."""
PRESETS = Path(__file__).parent / "presets"
LENGTHS = PRESETS / "lengths"
PUBLISHED = Path(__file__).parent / "published.csv"
"""Published accuracies, each with its source."""
