"""An embedding to hover over: plain HTML and CSS, no script, no widget, nothing from the network."""

import base64
import io
import zlib
from html import escape

import numpy as np
from IPython.display import HTML
from matplotlib.colors import to_hex
from PIL import Image

from genscl_lessons.plots import class_points, label_caption, label_colors

TILE, LARGEST = 72, 16
"""Width in pixels of the image shown at a point, and the most that is stored of it."""


def interactive_embedding(
    points: np.ndarray, images: np.ndarray, labels: np.ndarray, names: list[str]
) -> HTML:
    """Show points on a map; the one under the mouse shows its image and its label.

    All text is in the style, so a viewer that removes styles (GitHub, Jupyter before a notebook is trusted)
    shows nothing.

    Args:
        points: (N, 2).
        images: (N, channels, H, W) in [0, 1]; stored with 16 gray levels or 256 colors.
        labels: (N, C) distributions.
        names: of the C classes.

    >>> picture = interactive_embedding(np.eye(2), np.zeros((2, 1, 8, 8)), np.eye(2), ["cat", "dog"])
    >>> picture.data.count('data-t="cat"')  # the point and the name of its class
    2
    """
    columns = int(np.ceil(len(points) ** 0.5))
    sheet = _sprite_sheet(images, columns)
    name = (
        f"map-{zlib.crc32(sheet + points.tobytes()):08x}"  # so that several can stand on one page
    )
    low, high = points.min(axis=0), points.max(axis=0)

    def place(point: np.ndarray) -> str:
        x, y = np.round(1000 * (point - low) / np.where(high > low, high - low, 1)).astype(int)
        return f"--x:{x};--y:{1000 - y}"

    marks = []
    for n, (point, color, label) in enumerate(
        zip(points, label_colors(labels), labels, strict=True)
    ):
        tile = f"--c:{n % columns};--r:{n // columns};--k:{to_hex(color)}"
        caption = escape(label_caption(label, names).replace(r"\$", "$"))
        marks.append(f'<i style="{place(point)};{tile}" data-t="{caption}"></i>')
    for point, title in zip(class_points(points, labels), names, strict=True):
        marks.append(f'<b style="{place(point)}" data-t="{escape(title)}"></b>')
    png = base64.b64encode(sheet).decode()
    style = STYLE % {"name": name, "tile": TILE, "sheet": TILE * columns, "png": png}
    return HTML(f'<style>{style}</style><div class="{name}">{"".join(marks)}</div>')


STYLE = """
.%(name)s{position:relative;width:760px;height:560px;background:#fff;color:#000;border:1px solid #ccc;
font:bold 13px/20px sans-serif}
.%(name)s:before{content:"hover over a point";position:absolute;left:12px;top:6px;
font-weight:normal;color:#777}
.%(name)s>*{position:absolute;left:calc(60px + var(--x)*.64px);top:calc(115px + var(--y)*.425px)}
.%(name)s i{width:10px;height:10px;margin:-5px;border-radius:50%%;background:var(--k)}
.%(name)s b{pointer-events:none}
.%(name)s b:before{content:attr(data-t);position:absolute;transform:translate(-50%%,-50%%);padding:0 4px;
border-radius:4px;background:#fffc}
.%(name)s i:hover{z-index:1;box-shadow:0 0 0 2px #fff,0 0 0 4px #000}
.%(name)s i:hover:before,.%(name)s i:hover:after{position:absolute;left:50%%;transform:translateX(-50%%);
pointer-events:none;background:#fff;border:2px solid var(--k);font-style:normal}
.%(name)s i:hover:before{content:attr(data-t);bottom:%(tile)spx;margin-bottom:15px;padding:0 5px;
white-space:nowrap}
.%(name)s i:hover:after{content:"";bottom:15px;width:%(tile)spx;height:%(tile)spx;image-rendering:pixelated;
background-image:url(data:image/png;base64,%(png)s);background-size:%(sheet)spx auto;
background-position:calc(var(--c)*-%(tile)spx) calc(var(--r)*-%(tile)spx)}
"""


def _sprite_sheet(images: np.ndarray, columns: int) -> bytes:
    """Put all images, dark on white where gray, on one PNG, ``columns`` in a row."""
    count, channels, height, width = images.shape
    pixels = np.round(255 * np.clip(1 - images if channels == 1 else images, 0, 1)).astype(np.uint8)
    width, height = min(width, LARGEST), min(height, LARGEST)
    size = columns * width, -(-count // columns) * height
    sheet = Image.new("L" if channels == 1 else "RGB", size, "white")
    for n, image in enumerate(np.moveaxis(pixels, 1, -1)):
        small = Image.fromarray(image.squeeze()).resize((width, height), Image.Resampling.BOX)
        sheet.paste(small, (n % columns * width, n // columns * height))
    file = io.BytesIO()
    sheet.quantize(16 if channels == 1 else 256).save(file, "PNG", optimize=True)
    return file.getvalue()
