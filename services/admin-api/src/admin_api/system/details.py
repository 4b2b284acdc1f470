"""Readers of a status's `details`, which may be of any version and contain anything."""

from collections.abc import Mapping
from typing import Any

from ingress_common.times import parse_rfc3339


def texts(value: object) -> list[str]:
    """The strings of a list, or the keys of an object; other items are left out."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | Mapping) else []


def instant_of(text: object) -> float | None:
    """Unix seconds of an RFC 3339 time; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        return None


def owned_since(details: Mapping[str, Any]) -> dict[str, float]:
    """The symbols that an instance owns, each with its valid start (unix seconds)."""
    owned = details.get("owned_since")
    given = owned if isinstance(owned, Mapping) else {}
    return {name: instant for name in texts(given) if (instant := instant_of(given[name])) is not None}
