"""What is served over HTTP: routes, their models, and what every answer has."""
