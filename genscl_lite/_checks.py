"""What is refused, in one line: each message names the argument, what was expected and what came."""

import difflib
import importlib.util
import math
import numbers

import torch
from torch import Tensor

from genscl_lite.gather import require_group, require_same_rows

SIMILARITIES = ("cosine", "inner_product", "bhattacharyya")
WEIGHTINGS = ("normalized", "eq2")
BACKENDS = ("auto", "dense", "streamed", "fused")


def nearest(name: object, choices) -> str:
    """Return " (did you mean 'x'?)" for the choice most like ``name``, or nothing.

    >>> nearest("sup_con", ["ce", "supcon"])
    " (did you mean 'supcon'?)"
    """
    close = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def require_choice(argument: str, value: object, choices) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``, with the nearest one as a hint."""
    if value not in choices:
        hint = nearest(value, choices)
        raise ValueError(f"{argument}: {value!r} is unknown{hint}; expected one of {', '.join(choices)}")


def require_positive(argument: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{argument}: expected a number above 0, got {value!r}")


def require_whole(argument: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``least``.

    >>> require_whole("steps", 2.5)
    Traceback (most recent call last):
    ValueError: steps: expected a whole number of at least 1, got 2.5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument}: expected a whole number of at least {least}, got {value!r}")


def require_packages(room: str, extra: str, *modules: str) -> None:
    """Raise ImportError, naming the extra to install, unless all modules can be found; none is imported.

    >>> require_packages("genscl_lite.train", "train", "no_such_module")
    Traceback (most recent call last):
    ImportError: genscl_lite.train needs no_such_module: pip install 'genscl-lite[train]'
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(f"{room} needs {', '.join(missing)}: pip install 'genscl-lite[{extra}]'")


# The loss


def check_options(temperature, similarity, weighting, base_temperature, backend, gather):
    require_positive("temperature", temperature)
    if base_temperature is not None:
        require_positive("base_temperature", base_temperature)
    if not callable(similarity):
        require_choice("similarity", similarity, SIMILARITIES)
    require_choice("weighting", weighting, WEIGHTINGS)
    require_choice("backend", backend, BACKENDS)
    if gather not in (True, False, "anchors"):
        raise ValueError(f'gather: expected True, False or "anchors", got {gather!r}')


def check_processes(latents, contrast_latents, validate):
    require_group()
    for name, tensor in (("latents", latents), ("contrast_latents", contrast_latents)):
        if validate and tensor is not None:
            require_same_rows(name, tensor)


def rows_of_views(latents, labels, anchor_mask, labelled, gather):
    """Bring (N, V, D) latents and what belongs to them to M = V*N rows, view by view."""
    if latents.ndim != 3:
        return latents, labels, anchor_mask
    images, views = latents.shape[:2]
    rows = latents.transpose(0, 1).flatten(0, 1)
    if anchor_mask is not None and anchor_mask.shape == (images, views):
        anchor_mask = anchor_mask.T.reshape(-1)
    if not labelled:
        return rows, labels, anchor_mask
    if labels is None:
        first = images * torch.distributed.get_rank() if gather else 0
        labels = torch.arange(images, device=latents.device) + first
    dims = 2 if labels.is_floating_point() else 1  # of one label for each image
    if labels.shape[:2] == (images, views) and labels.ndim == dims + 1:
        labels = labels.transpose(0, 1).flatten(0, 1)
    elif len(labels) == images and labels.ndim == dims:
        labels = labels.repeat(views, *[1] * (labels.ndim - 1))
    else:
        raise ValueError(f"labels: expected one for each of {images} images (or {images} x {views} views), "
                         f"got shape {tuple(labels.shape)}")
    return rows, labels, anchor_mask


def check_latents(latents, contrast_latents, validate):
    for name, tensor in (("latents", latents), ("contrast_latents", contrast_latents)):
        if tensor is None:
            continue
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise ValueError(f"{name}: expected floating point of shape (rows, D), "
                             f"got {tensor.dtype} of shape {tuple(tensor.shape)}")
        if validate and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).any(dim=1).sum())
            raise ValueError(f"{name}: holds NaN or infinity in {bad} of {len(tensor)} rows")
    if contrast_latents is None:
        if len(latents) < 2:
            raise ValueError("latents: expected at least 2 rows to contrast with each other, "
                             f"got {len(latents)}")
        return
    if contrast_latents.shape[1] != latents.shape[1]:
        raise ValueError(f"contrast_latents: expected latent size {latents.shape[1]} as in latents, "
                         f"got {contrast_latents.shape[1]}")
    if len(contrast_latents) == 0:
        raise ValueError("contrast_latents: expected at least one row, got none")


def check_anchor_mask(anchor_mask, latents):
    if anchor_mask is None:
        return
    if anchor_mask.shape != latents.shape[:1] or anchor_mask.dtype != torch.bool:
        raise ValueError(f"anchor_mask: expected bool of shape ({len(latents)},), "
                         f"got {anchor_mask.dtype} of shape {tuple(anchor_mask.shape)}")


def check_weights(weights, labels, contrast_labels, latents, contrast_latents, gather_contrasts, validate):
    if labels is not None or contrast_labels is not None:
        raise ValueError("weights: they take the place of labels; give one or the other")
    processes = torch.distributed.get_world_size() if gather_contrasts else 1
    expected = (len(latents), processes * len(latents if contrast_latents is None else contrast_latents))
    if weights.shape != expected:
        raise ValueError(f"weights: expected shape {expected}, got {tuple(weights.shape)}")
    if validate and not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise ValueError("weights: expected finite values >= 0, got NaN, infinite or negative ones")


def checked_function(similarity, labels, contrast_labels, validate):
    """Return a function from a slice of anchors to what ``similarity`` says of them, checked."""
    if labels.ndim != 2:
        raise ValueError("similarity: a function compares distributions (rows, C); "
                         "these labels are class numbers")

    def rows_of(rows):
        s = similarity(labels[rows], contrast_labels)
        expected = (rows.stop - rows.start, len(contrast_labels))
        if s.shape != expected:
            raise ValueError(f"similarity: expected the function to return shape {expected}, "
                             f"got {tuple(s.shape)}")
        if validate and not bool((torch.isfinite(s) & (s >= 0)).all()):
            raise ValueError("similarity: expected the function to return finite values >= 0, "
                             "got NaN, infinite or negative ones")
        return s

    return rows_of


def check_label_pair(labels, contrast_labels, latents, contrast_latents, validate):
    if labels is None:
        raise ValueError("labels: expected (M, C) distributions or (M,) class numbers (or weights), got None")
    check_labels("labels", labels, len(latents), validate)
    if (contrast_latents is None) != (contrast_labels is None):
        raise ValueError("contrast_latents and contrast_labels: give both or neither")
    if contrast_labels is None:
        return labels, labels
    check_labels("contrast_labels", contrast_labels, len(contrast_latents), validate)
    check_same_kind(labels, contrast_labels)
    return labels, contrast_labels


def check_labels(name: str, labels: Tensor, rows: int, validate: bool = True) -> None:
    if len(labels) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each latent, "
                         f"got shape {tuple(labels.shape)}")
    if labels.ndim == 1:
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"{name}: expected integers as class numbers, got {labels.dtype}; "
                             "distributions have shape (rows, C)")
        if validate and len(labels) and labels.min() < 0:
            raise ValueError(f"{name}: expected class numbers >= 0, got {int(labels.min())}")
        return
    if labels.ndim != 2 or not labels.is_floating_point():
        raise ValueError(f"{name}: expected floating point distributions (rows, C) or integers (rows,), "
                         f"got {labels.dtype} of shape {tuple(labels.shape)}")
    if not validate:
        return
    sums = labels.float().sum(dim=1)
    half = labels.dtype in (torch.float16, torch.bfloat16)
    tolerance = 1e-2 if half else 1e-3  # what such numbers can hold
    good = (torch.isfinite(labels) & (labels >= 0)).all(dim=1) & ((sums - 1).abs() < tolerance)
    if not good.all():
        row = int((~good).nonzero()[0])
        values = labels[row]
        what = f"sums to {float(sums[row]):g}, not 1"
        if not torch.isfinite(values).all():
            what = "holds NaN or infinity"
        elif values.min() < 0:
            what = f"holds a negative value, {float(values.min()):g}"
        raise ValueError(f"{name}: expected distributions, but row {row} {what}")


def check_same_kind(labels: Tensor, contrast_labels: Tensor) -> None:
    if labels.shape[1:] != contrast_labels.shape[1:]:
        raise ValueError(f"contrast_labels: expected the kind and classes of labels, {tuple(labels.shape)}, "
                         f"got {tuple(contrast_labels.shape)}")
