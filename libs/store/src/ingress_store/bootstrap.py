"""The resources that a store needs: tables and indexes, or buckets, tasks and tokens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Properties = Mapping[str, str | int | float | bool | None]
"""What matters about a resource; two resources are the same if these are equal."""


class ResourceState(StrEnum):
    """How a resource compares with what it should be."""

    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class StoreResource:
    """A thing in the store, known by its kind (`table`, `bucket`, `task`, ...) and name."""

    kind: str
    name: str
    properties: Properties


@dataclass(frozen=True, slots=True)
class Comparison:
    """One resource: the expected one (None if it is not ours) and the existing one (None if there is none)."""

    kind: str
    name: str
    expected: Properties | None
    found: Properties | None

    @property
    def state(self) -> ResourceState:
        """`foreign` resources are not ours and are not touched."""
        if self.expected is None:
            return ResourceState.FOREIGN
        if self.found is None:
            return ResourceState.MISSING
        return ResourceState.OK if dict(self.expected) == dict(self.found) else ResourceState.DIFFERENT

    def as_json(self) -> dict[str, Any]:
        """As JSON for the HTTP response."""
        return {
            "kind": self.kind,
            "name": self.name,
            "state": self.state.value,
            "expected": None if self.expected is None else dict(self.expected),
            "found": None if self.found is None else dict(self.found),
        }


@dataclass(frozen=True, slots=True)
class BootstrapState:
    """The existing resources compared with the expected ones."""

    store: str
    resources: tuple[Comparison, ...]

    @property
    def difference(self) -> tuple[Comparison, ...]:
        """What a bootstrap would change."""
        return tuple(r for r in self.resources if r.state in (ResourceState.MISSING, ResourceState.DIFFERENT))

    @property
    def complete(self) -> bool:
        """Whether every expected resource exists."""
        return not self.difference


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """What a bootstrap changed, and the state after it."""

    changes: tuple[str, ...]
    state: BootstrapState


def compare(store: str, expected: Iterable[StoreResource], found: Iterable[StoreResource]) -> BootstrapState:
    """Compare the expected resources with the existing ones; the expected come first, in their order."""
    is_there = {(resource.kind, resource.name): resource.properties for resource in found}
    rows = [
        Comparison(want.kind, want.name, want.properties, is_there.pop((want.kind, want.name), None))
        for want in expected
    ]
    rows += [Comparison(kind, name, None, properties) for (kind, name), properties in sorted(is_there.items())]
    return BootstrapState(store, tuple(rows))
