"""``python -m genscl_lite.lessons.thumbnails``: make the map's small pictures from the notebooks' cells tagged ``thumbnail``."""

import base64
import io
import json
from pathlib import Path

from PIL import Image

from genscl_lite.runs.paths import NOTEBOOKS

WIDTH = 320  # pixels


def thumbnail(notebook: Path) -> Image.Image:
    """Return the first figure of the cell tagged ``thumbnail``, made small.

    Raises:
        ValueError: no cell has the tag, or it shows no figure.
    """
    for cell in json.loads(notebook.read_text())["cells"]:
        if "thumbnail" in cell["metadata"].get("tags", []):
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))).convert("RGB")
                    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)
    raise ValueError(f"{notebook.name}: no cell tagged thumbnail that shows a figure")


if __name__ == "__main__":
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        small = thumbnail(path)
        small.quantize(64).save(NOTEBOOKS / "thumbnails" / f"{path.stem}.png", optimize=True)
