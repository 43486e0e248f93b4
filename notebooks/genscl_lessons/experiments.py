"""What we found when we turned the dials of notebooks 01, 04 and 05 ourselves, folded away."""

from html import escape

import pandas as pd
from IPython.display import HTML, display

from genscl_lite.runs.paths import NOTEBOOKS

FOLDER = NOTEBOOKS / "experiments"


def read_found(name: str) -> pd.DataFrame:
    """Read a line for each training, as ``experiments/train_all.py`` has written it."""
    return pd.read_csv(FOLDER / f"{name}.csv")


def fold_table(table: pd.DataFrame, *sentences: str) -> None:
    """Show a table and what it says, folded: the reader turns the dial first, then opens it."""
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    shown = table.to_html(border=0, justify="left")
    display(HTML(f"<details><summary>What we found</summary>{shown}{text}</details>"))
