"""The first look at the files of a data set: each is decoded once, to learn what can be read and what it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from genscl_lite.datasets.decode import Glance, center_crop, look_at, reason
from genscl_lite.datasets.depth import find_intensity
from genscl_lite.datasets.seen import Seen, moments
from genscl_lite.datasets.workers import CHUNK, answers, chunks, make_loader, resolve_workers


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What was found in N files that can be read, in their order, and in the others."""

    files: list[str]
    bad: dict[str, str]  # file that cannot be read -> what is wrong
    intensity: tuple[float, float] | None  # black and white; None: no pixel has more than 8 bits
    images: Tensor  # uint8 (N, 3, size, size) center crops, or none of them
    moments: Tensor  # int64 (N, 2, 3)
    seen: Seen
    glances: pd.DataFrame  # a row for each file, a column for each field of ``Glance``

    def rows(self, files: Sequence[str]) -> list[int]:
        """Return where files stand."""
        place = {file: row for row, file in enumerate(self.files)}
        return [place[file] for file in files]

    def crops(self, files: Sequence[str]) -> Tensor:
        """Return the crops of files, not copied if they follow one another."""
        rows = self.rows(files)
        following = slice(rows[0], rows[0] + len(rows))
        return self.images[following if rows == [*range(len(self.files))[following]] else rows]


def first_look(
    root: Path,
    files: Sequence[str],
    size: int,
    *,
    workers: int | None = None,
    keep: bool = False,
    intensity: tuple[float, float] | None = None,
    pages: str = "first",
) -> FirstLook:
    """Decode files to center crops of ``size`` pixels; keep the crops, or only what they tell.

    Args:
        root, files: folder, and paths relative to it.
        workers: processes; None: one for each core, at most 16.
        keep: return the crops.
        intensity: black and white of pixels with more than 8 bits; None: found over all files, of which those
            with such pixels are then decoded twice.
        pages: "first", or "stop": a file with several pages counts as one that cannot be read.
    """
    count, bad, later = len(files), {}, []
    images = torch.empty(count if keep else 0, 3, size, size, dtype=torch.uint8)
    sums = torch.zeros(count, 2, 3, dtype=torch.long)
    seen = Seen([b""] * count, torch.zeros(count, 3).bool(), torch.zeros(count, 3).byte())
    glances: list[Glance | None] = [None] * count
    rows = list(range(count))
    while rows:
        parts, later = chunks(rows, CHUNK), []
        batches = ([files[row] for row in part] for part in parts)
        at_work = min(resolve_workers(workers), len(parts))
        loader = make_loader(Looks(root, size, intensity, pages), batches, at_work, rows=CHUNK)
        for part, (crops, found) in zip(parts, answers(loader), strict=True):
            done = []
            for row, (glance, decoded) in zip(part, found, strict=True):
                if isinstance(glance, str):
                    bad[files[row]] = glance
                    continue
                glances[row] = glance
                (done if decoded else later).append(row)
            if not done:
                continue
            sums[done] = moments(crops)
            new = Seen.of(crops)
            seen.constant[done], seen.first[done] = new.constant, new.first
            for row, known in zip(done, new.hashes, strict=True):
                seen.hashes[row] = known
            if keep:
                images[done] = crops
        rows = later
        if rows:
            deep = [glances[row] for row in rows]
            intensity = find_intensity(min(g.low for g in deep), max(g.high for g in deep))
    good = [row for row in range(count) if glances[row]]
    if bad and keep:
        images = images[good]
    table = pd.DataFrame([glances[row] for row in good], columns=Glance._fields)
    if (table.kind == "uint8").all():
        intensity = None
    names = [files[row] for row in good]
    return FirstLook(names, bad, intensity, images, sums[good], seen[good], table)


@dataclass(frozen=True)
class Looks(torch.utils.data.Dataset):
    """What ``look_at`` returns of a file, its pixels as a center crop, as a DataLoader asks for it."""

    root: Path
    size: int
    intensity: tuple[float, float] | None
    pages: str

    def __getitem__(self, file: str) -> tuple[Tensor | None, Glance | str]:
        try:
            image, glance = look_at(self.root / file, self.intensity)
        except ValueError as error:
            return None, reason(error, self.root / file)
        if glance.pages > 1 and self.pages == "stop":
            return None, f'{glance.pages} pages; pages="first" takes the first'
        return (None if image is None else center_crop(image, self.size)), glance

    def collate(self, items: list) -> tuple[Tensor, list[tuple[Glance | str, bool]]]:
        """Return the crops that there are, and of each file a glance, or what is wrong, and whether it has a crop."""
        crops = [crop for crop, _ in items if crop is not None]
        none = torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        found = [(glance, crop is not None) for crop, glance in items]
        return torch.stack(crops) if crops else none, found
