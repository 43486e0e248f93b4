"""Checks of arguments: each message names the argument, what was expected and what came.

Importing this file imports no torch: ``genscl check`` must run even if torch is broken.
"""

import difflib
import importlib.util
import math
import numbers
import sys

WEIGHTINGS = ("normalized", "eq2")
BACKENDS = ("auto", "dense", "streamed", "fused")
REDUCTIONS = ("mean", "sum", "none")
DIVIDE = "; for rows of several classes give labels / labels.sum(dim=1, keepdim=True)"


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
        raise ValueError(
            f"{argument}: {value!r} is unknown{nearest(value, choices)}; "
            f"expected one of {', '.join(choices)}"
        )


def require_positive(argument: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a number between 1e-30 and 1e30."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 1e-30 <= value <= 1e30:
        limits = ", from 1e-30 to 1e30" if real and 0 < value < math.inf else ""
        raise ValueError(f"{argument}: expected a number above 0{limits}, got {value!r}")


def require_whole(argument: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``least``.

    >>> require_whole("steps", 2.5)
    Traceback (most recent call last):
    ValueError: steps: expected a whole number of at least 1, got 2.5
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{argument}: expected a whole number of at least {least}, got {value!r}")


def require_packages(extra: str, *modules: str) -> None:
    """Raise ImportError in the caller's name unless all ``modules`` are installed; none is imported.

    >>> require_packages("train", "torch", "nonsense")
    Traceback (most recent call last):
    ImportError: genscl_lite._checks needs nonsense: pip install 'genscl-lite[train]'
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        caller = sys._getframe(1).f_globals["__name__"]
        raise ImportError(
            f"{caller} needs {', '.join(missing)}: pip install 'genscl-lite[{extra}]'"
        )


def require_instances(kind: type, **values) -> None:
    """Raise ValueError unless all ``values`` are of this ``kind``, most often a Tensor."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise ValueError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")


def check_options(temperature, weighting, base_temperature, reduction, backend, validate) -> None:
    """Check the options of ``gen_supcon_loss``, which most functions below serve."""
    if hasattr(temperature, "requires_grad"):  # a tensor, for whose value a GPU waits
        temperature = temperature.squeeze().tolist() if validate else 1
    require_positive("temperature", temperature)
    if base_temperature is not None:
        require_positive("base_temperature", base_temperature)
    require_choice("weighting", weighting, WEIGHTINGS)
    require_choice("reduction", reduction, REDUCTIONS)
    require_choice("backend", backend, BACKENDS)


def check_rows(name: str, tensor, like=None, validate: bool = True) -> None:
    """Check latents, or features: (rows, D), with D that of ``like``."""
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ValueError(
            f"{name}: expected floating point of shape (rows, D), "
            f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
    if 0 in tensor.shape:
        raise ValueError(
            f"{name}: expected at least one row and column, got shape {tuple(tensor.shape)}"
        )
    if like is not None and tensor.shape[1] != like.shape[1]:
        raise ValueError(f"{name}: expected latent size {like.shape[1]}, got {tensor.shape[1]}")
    if validate and not math.isfinite(tensor.detach().sum()):  # or the sum is too large
        wrong = int((~tensor.isfinite()).any(dim=1).sum())
        if wrong:
            raise ValueError(f"{name}: holds NaN or infinity in {wrong} of {len(tensor)} rows")


def check_anchor_weight(anchor_weight, rows: int, validate: bool) -> None:
    """Check the (rows,) weights of anchors; a bool is 0 or 1."""
    if anchor_weight.shape != (rows,) or anchor_weight.is_complex():
        raise ValueError(
            f"anchor_weight: expected numbers of shape ({rows},), "
            f"got {anchor_weight.dtype} of shape {tuple(anchor_weight.shape)}"
        )
    if validate and not bool(((anchor_weight >= 0) & anchor_weight.isfinite()).all()):
        raise ValueError("anchor_weight: expected finite numbers >= 0, got others")


def check_similarities(expected: str, s, shape: tuple[int, int], validate: bool) -> None:
    """Check the caller's similarities of pairs: ``pair_similarity``, or what a function returned."""
    if s.shape != shape:
        raise ValueError(f"{expected} shape {shape}, got {tuple(s.shape)}")
    if validate and (s.is_complex() or not bool((s.isfinite() & (s >= 0)).all())):
        raise ValueError(f"{expected} finite values >= 0, got NaN, infinite or negative ones")


def check_targets(name: str, targets, rows: int | None, validate: bool, like=None) -> None:
    """Check what a function of similarity compares: (rows, ...), of any kind."""
    if not targets.ndim or rows not in (None, len(targets)):
        raise ValueError(
            f"{name}: expected {rows} rows, one for each latent, got {tuple(targets.shape)}"
        )
    if like is not None and targets.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"{name}: expected the kind and classes of labels, {tuple(like.shape)}, "
            f"got {tuple(targets.shape)}"
        )
    if validate and not bool(targets.isfinite().all()):
        raise ValueError(f"{name}: holds NaN or infinity")


def check_labels(
    name: str, labels, rows: int | None = None, validate: bool = True, like=None
) -> None:
    """Check class numbers (rows,) or distributions (rows, C), of the kind and C of ``like``.

    A row's sum may differ from 1 by 0.005 for each class, as after rounding to two decimals, up to 0.1.
    """
    if labels.ndim:
        check_targets(name, labels, rows, False, like)
    if labels.ndim == 1:
        if labels.is_floating_point() or labels.is_complex() or str(labels.dtype) == "torch.bool":
            raise ValueError(
                f"{name}: expected integers as class numbers (see .long()), got {labels.dtype}; "
                "distributions have shape (rows, C)"
            )
        if validate and len(labels) and (least := int(labels.long().min())) < 0:
            raise ValueError(f"{name}: expected class numbers >= 0, got {least}")
        return
    if labels.ndim != 2 or not labels.shape[1] or not labels.is_floating_point():
        hint = DIVIDE if labels.shape[1:] > (1,) else ""
        raise ValueError(
            f"{name}: expected floating point distributions (rows, C) or integers (rows,), "
            f"got {labels.dtype} of shape {tuple(labels.shape)}{hint}"
        )
    if validate and len(labels):
        _check_distributions(name, labels.detach())


def _check_distributions(name: str, labels) -> None:
    """Check (rows, C) values; look for the row to name only after one look at all of them has failed."""
    sums = labels.float().sum(dim=1)
    tolerance = 1e-5 + min(0.1, max(0.005 * labels.shape[1], 0.01 * (labels.element_size() == 2)))
    least, low, high = (t.item() for t in (labels.min(), *sums.aminmax()))
    if least >= 0 and low >= 1 - tolerance and high <= 1 + tolerance:
        return
    row = int((~((labels.amin(dim=1) >= 0) & ((sums - 1).abs() <= tolerance))).nonzero()[0])
    values = labels[row]
    if not values.isfinite().all():
        what = "holds NaN or infinity"
    elif values.min() < 0:
        what = f"holds a negative value, {float(values.min()):g}"
    else:
        what = f"sums to {float(sums[row]):g}, not 1{DIVIDE if sums[row] > 1 else ''}"
    raise ValueError(f"{name}: expected distributions, but row {row} {what}")
