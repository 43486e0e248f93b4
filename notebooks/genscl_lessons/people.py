"""What a small teacher says about photographs that people disagree about."""

import pandas as pd

from genscl_lite.runs.paths import NOTEBOOKS


def teacher_says() -> pd.DataFrame:
    """Return the committed answers of a small teacher: a row for each photograph, a column a class."""
    return pd.read_csv(NOTEBOOKS / "pictures" / "doubtful_photos.csv", index_col="photograph")
