"""Docstrings of class fields: the descriptions of settings."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise


class UndocumentedFieldError(Exception):
    """A setting has no docstring after it."""


def field_docs(cls: type) -> dict[str, str]:
    """The docstrings of all annotated fields of `cls` and its base classes, each on one line, by field name."""
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
