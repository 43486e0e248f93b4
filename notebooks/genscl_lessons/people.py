"""What a small teacher says about photographs that people disagree about."""

from pathlib import Path

import pandas as pd

from genscl_lite.runs.paths import NOTEBOOKS

__all__ = ["teacher_says"]

TEACHER = NOTEBOOKS / "pictures" / "doubtful_photos.csv"


def teacher_says(path: Path = TEACHER) -> pd.DataFrame:
    """Return the committed answers of a small teacher: a row for each photograph, a column a class."""
    return pd.read_csv(path, index_col="photograph")
