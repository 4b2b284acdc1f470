"""HTTP parts that all endpoints share: errors, limits, headers, parameters. Knows no endpoint."""
