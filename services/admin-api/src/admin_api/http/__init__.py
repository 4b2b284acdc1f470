"""What all answers over HTTP share: errors, limits, headers, parameters. It knows nothing of what is served."""
