"""Points that move on a circle, side by side for several losses: a slider over time, a button a temperature.

Plain HTML with a short script and nothing from the network. Only angles are stored, 30 kB for two losses at
three temperatures; the same film as frames of matplotlib's ``to_jshtml`` would need more than a megabyte.
"""

import base64
import io
import json
import zlib

import numpy as np
from IPython.display import HTML
from matplotlib.colors import to_hex
from PIL import Image

from genscl_lessons.figures.digits import spread
from genscl_lessons.plots import label_colors

FALLBACK = (
    "The film needs scripts: run this cell in Jupyter. The pictures below show some of its frames."
)


def circle_film(
    paths: dict[float, dict[str, tuple[np.ndarray, np.ndarray, float]]],
    steps: list[int],
    labels: np.ndarray,
    images: np.ndarray,
    first: float,
) -> HTML:
    """Show how points move on the circle.

    Where scripts are removed (GitHub, Jupyter before a notebook is trusted), one sentence says so.

    Args:
        paths: temperature -> name of the loss -> (F, N, 2) unit latents in F frames, (F,) losses, the floor.
        steps: F, the step of each frame.
        labels: (N, C) distributions, for colors.
        images: (N, H, W) in [0, 1].
        first: the temperature that is shown first.

    >>> still = np.stack([np.eye(2)] * 3), np.array([3.0, 2.0, 1.0]), 0.5
    >>> film = circle_film({0.1: {"SupCon": still}}, [0, 1, 2], np.eye(2), np.zeros((2, 8, 8)), first=0.1)
    >>> "http" in film.data.replace("http://www.w3.org/2000/svg", ""), len(film.data) < 10_000
    (False, True)
    """
    films = {
        f"{tau:g}": [_film(name, *path) for name, path in of_tau.items()]
        for tau, of_tau in paths.items()
    }
    data = {
        "films": films,
        "steps": [int(step) for step in steps],
        "first": f"{first:g}",
        "colors": [to_hex(color) for color in label_colors(labels)],
        "images": [_data_uri(image) for image in images],
    }
    text = json.dumps(data, separators=(",", ":"))
    name = f"film-{zlib.crc32(text.encode()):08x}"
    script = SCRIPT.replace("DATA", text).replace("NAME", name)
    return HTML(f'<div id="{name}"><i>{FALLBACK}</i></div><script>{script}</script>')


def _film(name: str, points: np.ndarray, losses: np.ndarray, floor: float) -> dict:
    angles = np.arctan2(points[..., 1], points[..., 0])  # (F, N)
    places = np.array([spread(frame, gap=0.36) for frame in angles])  # of the images, side by side
    return {
        "name": name,
        "angles": np.round(1000 * angles).astype(int).tolist(),
        "floor": round(floor, 3),
        "places": np.round(1000 * places).astype(int).tolist(),
        "losses": np.round(losses, 3).tolist(),
    }


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(np.round(255 * (1 - np.clip(image, 0, 1))).astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


SCRIPT = """(() => {
const data = DATA, box = document.getElementById("NAME"), ns = "http://www.w3.org/2000/svg";
const add = (parent, kind, attributes, text = "") => {
  const node = parent.appendChild(parent.namespaceURI == ns || kind == "svg"
    ? document.createElementNS(ns, kind) : document.createElement(kind));
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  node.textContent = text;
  return node;
};
let tau = data.first, frame = 0, timer = null;
box.textContent = "";
box.style.cssText = "font:14px sans-serif;background:#fff;color:#000;width:780px;padding:8px";
const bar = add(box, "div", {style: "display:flex;gap:10px;align-items:center;margin-bottom:4px"});
const play = add(bar, "button", {style: "width:64px"}, "Play");
const slider = add(bar, "input", {type: "range", min: 0, max: data.steps.length - 1, value: 0,
  "aria-label": "step", style: "flex:1"});
const step = add(bar, "span", {style: "width:72px"});
const buttons = Object.keys(data.films).sort((a, b) => a - b).map(value => {
  const button = add(bar, "button", {}, "τ = " + value);
  button.onclick = () => { tau = value; draw(); };
  return [value, button];
});
const place = (angle, radius) =>
  [200 + radius * Math.cos(angle / 1000), 185 - radius * Math.sin(angle / 1000)];
const views = data.films[tau].map(film => {
  const svg = add(box, "svg", {width: 385, height: 358, viewBox: "0 0 400 372", style: "vertical-align:top"});
  add(svg, "circle", {cx: 200, cy: 185, r: 110, fill: "none", stroke: "#ccc"});
  const middle = {x: 200, "text-anchor": "middle", style: "font-family:sans-serif"};
  add(svg, "text", {...middle, y: 178, "font-weight": "bold", "font-size": 17}, film.name);
  const loss = add(svg, "text", {...middle, y: 202, "font-size": 14});
  const marks = data.images.map((image, n) => {
    const stroke = data.colors[n];
    return [add(svg, "line", {stroke}), add(svg, "circle", {r: 6, fill: stroke, stroke: "#fff"}),
      add(svg, "rect", {width: 34, height: 34, fill: stroke}),
      add(svg, "image", {width: 30, height: 30, href: image, style: "image-rendering:pixelated"})];
  });
  return [loss, marks];
});
function draw() {
  views.forEach(([loss, marks], k) => {
    const film = data.films[tau][k];
    loss.textContent = `loss ${film.losses[frame].toFixed(2)}, floor ${film.floor.toFixed(2)}`;
    marks.forEach(([line, dot, frameOfImage, image], n) => {
      const [x, y] = place(film.angles[frame][n], 110), [u, v] = place(film.places[frame][n], 160);
      for (const [node, values] of [[line, {x1: x, y1: y, x2: u, y2: v}], [dot, {cx: x, cy: y}],
        [frameOfImage, {x: u - 17, y: v - 17}], [image, {x: u - 15, y: v - 15}]])
        for (const key in values) node.setAttribute(key, values[key]);
    });
  });
  step.textContent = "step " + data.steps[frame];
  slider.value = frame;
  for (const [value, button] of buttons) button.style.fontWeight = value == tau ? "bold" : "normal";
}
function stop() { clearInterval(timer); timer = null; play.textContent = "Play"; }
slider.oninput = () => { stop(); frame = +slider.value; draw(); };
play.onclick = () => {
  if (timer) return stop();
  if (frame == data.steps.length - 1) frame = 0;
  play.textContent = "Stop";
  timer = setInterval(() => { frame += 1; draw(); if (frame == data.steps.length - 1) stop(); }, 140);
};
draw();
})();"""
