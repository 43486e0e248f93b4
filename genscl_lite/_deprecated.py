"""Names of version 0.2, which work for one version more, with a warning."""

import functools
import warnings
from collections.abc import Callable

from genscl_lite.gather import gather_rows


def warn(old: str, new: str) -> None:
    """Warn whoever called the caller that ``old`` is now ``new``."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)


def old_arguments(parts: Callable | None = None, **new_names: str) -> Callable:
    """Let a function take arguments by their old names, and ``return_parts``, which calls ``parts`` instead.

    ``gather=True`` gathered the contrasts too, which is now left to the caller.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **options):
            for old in new_names.keys() & options.keys():
                warn(f"{old}=", f"{new_names[old]}=")
                value = options.pop(old)
                if old == "gather":
                    for name in {"contrast_latents", "contrast_labels"} & options.keys():
                        if value is True and options[name] is not None:
                            options[name] = gather_rows(options[name])
                    value = bool(value)
                options[new_names[old]] = value
            if parts and "return_parts" in options:
                warn("return_parts=", "gen_supcon_loss_parts, or a module's method parts")
                return (parts if options.pop("return_parts") else function)(*args, **options)
            return function(*args, **options)

        return call

    return decorate
