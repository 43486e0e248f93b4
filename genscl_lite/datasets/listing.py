"""Which images a data set of files has, of which class, and in which split: from folders, or from a CSV."""

import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd
from PIL import Image

from genscl_lite.datasets.files import as_path
from genscl_lite.datasets.labels import LabelTable, first_few

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders that hold splits, in small letters or large."""
LIKE_A_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?([\W_].*|set)?", re.IGNORECASE)
HIDDEN = (".", "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
"""How the names of files and folders begin that programs keep for themselves, copies of images among them."""
NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that PIL knows by name but cannot decode."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files and what is known of each, before the split."""

    root: Path
    table: pd.DataFrame  # path below root, label (class number), split ("train", "test", ""), group
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def without(self, left_out: Collection[str]) -> "Listing":
        """Return the same without some files."""
        return replace(self, table=self.table[~self.table.path.isin(left_out)])


def list_files(root: str | Path | None, labels: LabelTable | None = None) -> Listing:
    """List the images of a folder, by its own folders, or as a CSV says that names their classes.

    A CSV of distributions leaves classes and splits to the folders, if these bear the names of its columns.

    Raises:
        ValueError: as ``list_folder`` and ``list_table``.
    """
    if not root:
        raise ValueError("data_root: dataset folder needs the folder of the images")
    if labels is None or (
        "label" not in labels.rows and _bears_names(as_path(root), labels.classes)
    ):
        return list_folder(root)
    return list_table(root, labels)


def _bears_names(root: Path, classes: Collection[str]) -> bool:
    names = _folders(root) if root.is_dir() else []
    inner = [inside for name in names for inside in _folders(root / name)]
    return not {*classes}.isdisjoint([*names, *inner])


# From folders


def list_folder(root: str | Path) -> Listing:
    """List ROOT/train/CLASS and ROOT/val/CLASS (or test), or ROOT/CLASS, whose split is still to be made.

    Splits are known by their usual names (``SPLITS``); val goes before test. Classes and order of files are
    those of torchvision's ImageFolder. An image is what PIL reads; nothing hidden is looked at. Of links that
    lead to one file, or to one that is there anyway, the first is taken. What is passed over is counted in
    a warning.

    Raises:
        ValueError: there is no such folder, no two classes, or splits cannot be told from classes.
    """
    root = as_path(root)
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    splits = dict(zip(_find_splits(root), ("train", "test"), strict=False)) or {"": ""}
    names = {folder: _folders(root / folder) for folder in splits}
    for folder, classes in names.items():
        if len(classes) < 2:
            raise ValueError(
                f"root: expected a folder for each of two or more classes in {root / folder}, "
                f"got {first_few(classes) or 'none'}"
            )
    class_names = sorted({name for classes in names.values() for name in classes})
    places = [(folder, name) for folder, classes in names.items() for name in classes]
    passed_over = Counter()
    found = _find_images(root, [root / folder / name for folder, name in places], passed_over)
    for folder in splits:
        loose = [p for p in (root / folder).iterdir() if _is_image(p.name) and p.is_file()]
        passed_over.update({f"in no class ({loose[0].name})": len(loose)} if loose else {})
    if passed_over:
        counted = [f"{count} {kind}" for kind, count in passed_over.most_common()]
        warnings.warn(
            f"root: passed over in {root}, as no image that PIL reads or of no class: "
            f"{first_few(counted, 9)}",
            stacklevel=2,
        )
    rows = [
        (path, class_names.index(name), splits[folder])
        for (folder, name), paths in zip(places, found, strict=True)
        for path in paths
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "split"])
    return Listing(root, table, tuple(class_names))


def _find_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the folders to train and to test with; none if the folders are classes.

    Raises:
        ValueError: folders are called like splits, and which is which cannot be told.
    """
    folders = _folders(root)
    found = {
        kind: [name for name in folders if name.lower() in names] for kind, names in SPLITS.items()
    }
    named = [name for names in found.values() for name in names]
    nested = [name for name in named if _folders(root / name)]
    trains, seconds = found["train"], found["val"] or found["test"]
    if len(trains) == len(seconds) == 1:
        return trains[0], seconds[0]
    if len(trains) == 1 and not seconds and nested:
        raise ValueError(
            f"root: {root} holds {trains[0]} but neither val nor test; add one, "
            f"or give {root / trains[0]} to have a split made"
        )
    like = [match[1].lower() for name in folders if (match := LIKE_A_SPLIT.fullmatch(name))]
    inner = [{name.lower() for name in _folders(root / name)} for name in folders]
    upside_down = any(
        names & {*SPLITS["train"]} and names & {*SPLITS["val"], *SPLITS["test"]} for names in inner
    )
    if (
        nested
        or len(named) > 1
        or upside_down
        or (len(like) == len(folders) and len(set(like)) > 1)
    ):
        raise ValueError(
            f"root: {root} holds {first_few(named or folders)}, and which of them are splits is "
            "not clear; expected one train and one val or test, each with a folder for each "
            "class, or the folders of classes alone"
        )
    return ()


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(HIDDEN))


def _is_image(name: str) -> bool:
    return not name.startswith(HIDDEN) and Path(name).suffix.lower() in _endings()


def find_images(words: list[str]) -> list[str]:
    """Return files as they are given, the images in and below a folder, and those that a pattern stands for.

    ValueError if a folder or pattern holds none.
    """
    found = []
    for word in words:
        path = as_path(word)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _is_image(p.name) and p.is_file())
        elif not path.exists() and glob.has_magic(word):
            inside = sorted(p for p in glob.glob(word, recursive=True) if _is_image(Path(p).name))
        else:
            inside = [word]
        if not inside:
            raise ValueError(f"images: no image that PIL reads in {word}")
        found += map(str, inside)
    return found


@cache
def _endings() -> frozenset[str]:
    kinds = Image.registered_extensions()
    return frozenset(
        ending
        for ending in kinds
        if kinds[ending] in {*Image.OPEN, "MPO"} and kinds[ending] not in NO_PIXELS
    )


def _find_images(root: Path, places: list[Path], passed_over: Counter) -> list[list[str]]:
    """Return the paths, relative to root, of the images below each place.

    Links are followed when all else was seen, so that a file belongs to the place where it lies.
    ``passed_over`` counts links to what was seen already, and files that are no images, by their ending.
    """
    there = {os.path.realpath(folder) for folder in (root, *(place.parent for place in places))}
    there |= {str(above) for above in Path(os.path.realpath(root)).parents}
    found: list[list[tuple[str, str]]] = [[] for _ in places]
    links = [(k, str(place)) for k, place in enumerate(places) if place.is_symlink()]

    def add(k: int, inside: str, name: str, real: str) -> None:
        if not _is_image(name):
            passed_over[Path(name).suffix.lower() or "without ending"] += 1
        elif real in there:
            passed_over["links to what is there"] += 1
        else:
            there.add(real)
            found[k].append((Path(inside).relative_to(root).as_posix(), name))

    def walk(k: int, top: str) -> None:
        for inside, folders, files in os.walk(top):
            shown = [name for name in folders + files if not name.startswith(HIDDEN)]
            linked = {name for name in shown if os.path.islink(os.path.join(inside, name))}
            folders[:] = [name for name in folders if name in shown and name not in linked]
            real = os.path.realpath(inside)
            if real in there:
                passed_over["links to what is there"] += 1
                folders.clear()
                continue
            there.add(real)
            links.extend((k, os.path.join(inside, name)) for name in sorted(linked))
            for name in sorted(files):
                if name in shown and name not in linked:
                    add(k, inside, name, os.path.join(real, name))

    for k, place in enumerate(places):
        if not place.is_symlink():
            walk(k, str(place))
    for k, link in links:  # which grows
        if os.path.isdir(link):
            walk(k, link)
        else:
            add(k, *os.path.split(link), os.path.realpath(link))
    return [[f"{inside}/{name}" for inside, name in sorted(images)] for images in found]


# From a CSV


def list_table(root: str | Path, labels: LabelTable) -> Listing:
    """List the images that a CSV names, with their label, or the most probable of the classes that have columns.

    Where it has no column ``split``, the split is still to be made.

    Raises:
        ValueError: there is no such folder or none of the files, a label or group is missing, a split is called
            as none is, or there are fewer than two classes.
    """
    root, rows, where = as_path(root), labels.rows, labels.where
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    for column in rows.columns.intersection(["label", "group"]):
        for line in rows.index[rows[column] == ""]:
            raise ValueError(f"{where}, line {line}, {rows.path[line]}: no {column}")
    if "label" in rows:
        by_number = rows.label.str.fullmatch("[0-9]+").all()
        names = sorted(rows.label.unique(), key=int if by_number else str)
        numbers = rows.label.map({name: c for c, name in enumerate(names)})
    else:
        names = list(labels.classes)
        numbers = labels.shares.to_numpy().argmax(axis=1) if names else ()
    if len(names) < 2:
        raise ValueError(
            f"{where}: expected two or more classes, in a column label or with a column each, "
            f"got {first_few(names) or 'none'}"
        )
    if not any((root / path).exists() for path in rows.path):
        wanted = root / rows.path.iloc[0]
        close = sorted(path.name for path in wanted.parent.glob(f"{glob.escape(wanted.name)}.*"))
        hint = f"; write names with their ending, {close[0]}" if close else ""
        hint = "; write / for \\" if "\\" in rows.path.iloc[0] else hint
        raise ValueError(f"{where}: none of its files is in {root}, the first is {wanted}{hint}")
    table = pd.DataFrame({"path": rows.path, "label": numbers})
    table["split"] = _named_splits(labels) if "split" in rows else ""
    if "group" in rows:
        table["group"] = rows.group
    if labels.ignored:
        warnings.warn(f"{where}: columns passed over: {first_few(labels.ignored)}", stacklevel=2)
    return Listing(root, table.reset_index(drop=True), tuple(names))


def _named_splits(labels: LabelTable) -> pd.Series:
    """Return "train", "test" or, of rows to test with if others are to validate with, "unused"."""
    kinds = {name: kind for kind, names in SPLITS.items() for name in names}
    splits = labels.rows.split.str.lower().map(kinds)
    for line in splits.index[splits.isna()]:
        raise ValueError(
            f"{labels.where}, line {line}: expected train, val or test as split, "
            f"got {labels.rows.split[line]!r}"
        )
    as_test = "val" if (splits == "val").any() else "test"
    return splits.map({"train": "train", as_test: "test"}).fillna("unused")
