"""``python notebooks/thumbnails/make.py``: make the small pictures of ``notebooks/README.md``.

Each shows the first figure of the cell tagged ``thumbnail`` in one notebook.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent
WIDTH = 320  # pixels


def thumbnail(notebook: Path) -> Image.Image:
    """Return the first figure of the cell tagged ``thumbnail``, made small.

    Raises:
        ValueError: no cell has the tag, or it shows no figure.
    """
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if "thumbnail" not in cell["metadata"].get("tags", []):
            continue
        for output in cell["outputs"]:
            png = output.get("data", {}).get("image/png")
            if png:
                picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
                height = round(picture.height * WIDTH / picture.width)
                return picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    raise ValueError(f"{notebook.name}: no cell tagged thumbnail that shows a figure")


if __name__ == "__main__":
    for path in sorted(FOLDER.parent.glob("*.ipynb")):
        thumbnail(path).quantize(64).save(FOLDER / f"{path.stem}.png", optimize=True)
