"""Renders rows of panels as a Grafana dashboard."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
_WIDTH = 24


Steps = list[dict[str, Any]]
"""Thresholds: a colour from each value on; the first one has no value."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the legend of its series."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `kind`: a panel type of Grafana; `unit`: one of its units; `steps`: thresholds by colour."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    steps: Steps = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class PanelRow:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def dashboard_json(rows: Sequence[PanelRow]) -> str:
    """The dashboard of `rows`, each across the whole width."""
    dashboard = {
        "uid": "crypto-ingress",
        "title": "Crypto Ingress",
        "tags": ["crypto-ingress"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": list(_panels(rows)),
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _panels(rows: Sequence[PanelRow]) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in rows:
        number += 1
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        yield {"id": number, **heading, "gridPos": _at(0, y, _WIDTH, 1)}
        x, y, highest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, highest = 0, y + highest, 0
            number += 1
            yield {"id": number, **_panel_of(panel), "gridPos": _at(x, y, panel.width, panel.height)}
            x, highest = x + panel.width, max(highest, panel.height)
        y += highest


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel_of(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": None if panel.title == "Clock" else 0}
    if panel.steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": panel.steps}
    if panel.values:
        defaults["mappings"] = [{"type": "value", "options": panel.values}]
    if panel.kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 20 if panel.stacked else 0}
        if panel.stacked:
            defaults["custom"]["stacking"] = {"mode": "normal"}
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        }
    else:
        options = {"colorMode": "background" if panel.steps else "value", "graphMode": "none", "textMode": "auto"}
        options["reduceOptions"] = {"calcs": ["lastNotNull"]}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [_target(place, panel.kind, query) for place, query in enumerate(panel.queries)],
    }


def _target(place: int, kind: str, query: Query) -> dict[str, Any]:
    target = {"refId": chr(ord("A") + place), "datasource": _DATASOURCE, "expr": query.expression}
    return {**target, "legendFormat": query.legend or "__auto", "instant": kind == "stat", "range": kind != "stat"}
