"""`python deploy/monitoring/generate`: writes docs/metrics.md and the Grafana dashboard."""

import sys
from pathlib import Path

from dashboard import dashboard_text
from metrics_page import metrics_page

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "metrics.md"
DASHBOARD = ROOT / "deploy" / "monitoring" / "grafana" / "dashboards" / "crypto-ingress.json"


def main() -> None:
    """Write both files."""
    PAGE.write_text(metrics_page(), encoding="utf-8")
    DASHBOARD.write_text(dashboard_text(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n{DASHBOARD}\n")


if __name__ == "__main__":
    main()
