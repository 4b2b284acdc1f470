"""The docstrings that stand behind the fields of a class: what a setting means, in the words of its code."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise


class MissingMeaningError(Exception):
    """A setting without a docstring behind it."""


def meanings(cls: type) -> dict[str, str]:
    """The docstring of every annotated field of `cls` and of what it inherits from, on one line, by field."""
    found: dict[str, str] = {}
    for parent in reversed(cls.__mro__):
        if parent.__module__.split(".")[0] not in ("builtins", "pydantic", "pydantic_settings"):
            found.update(_own(parent))
    return found


def _own(cls: type) -> Iterator[tuple[str, str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for field, following in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            yield field.target.id, " ".join(following.value.value.split())
