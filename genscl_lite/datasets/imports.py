"""Functions of somebody else's modules, named "module:function" in a configuration."""

import re
from collections.abc import Callable
from importlib import import_module


def names_a_function(name: str) -> bool:
    """Tell whether a name is like "module:function"; nothing is imported.

    >>> names_a_function("my_photos:load"), names_a_function("cifar10")
    (True, False)
    """
    return bool(re.fullmatch(r"\w+(\.\w+)*:\w+", name))


def import_function(parameter: str, name: str) -> Callable:
    """Import the function that "module:function" names, for a parameter that errors mention.

    Raises:
        ValueError: the module cannot be imported, or it has no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function, None)
    except Exception as error:  # whatever the module does when it is imported
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"{parameter}: {name!r}: module {module!r} cannot be imported: {why}"
        ) from None
    if not callable(found):
        raise ValueError(f"{parameter}: {name!r}: module {module!r} has no function {function!r}")
    return found


def one_line(error: Exception) -> str:
    """Return the type of an error and the first line of what it says.

    >>> one_line(KeyError("a"))
    "KeyError: 'a'"
    """
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
