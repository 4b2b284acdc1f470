"""System health, bootstrap of the store, dead letters, the dashboard, and authorisation."""
