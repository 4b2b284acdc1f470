"""The health of a service: its own checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `detail` is a sentence for people."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: the process works; restart it otherwise. `ready`: it does its work now."""

    live: bool
    ready: bool
    checks: tuple[Check, ...] = ()

    @property
    def problems(self) -> list[str]:
        """The failed checks as `name: detail`, for the instance's status."""
        return [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]

    def as_json(self) -> dict[str, Any]:
        """The body of `/health/live` and `/health/ready`."""
        return {
            "live": self.live,
            "ready": self.ready,
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks],
        }


def some(names: Sequence[str], most: int = 10) -> str:
    """The first `most` names, and the number of further ones."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class Carrier(Protocol):
    """A part of the connection with the broker: a `Bus`, or the `StatusPublisher` on one."""

    @property
    def problem(self) -> str:
        """Why it does not carry everything at present; empty if it does."""
        ...


def broker_check(*carriers: Carrier) -> Check:
    """The check `broker`: every bus is connected, and the broker accepts and delivers everything."""
    problem = next((carrier.problem for carrier in carriers if carrier.problem), "")
    return Check("broker", ok=not problem, detail=problem or "connected")
