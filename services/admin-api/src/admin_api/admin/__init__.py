"""Health of everything, bootstrap of the store, dead letters, the dashboard, and who may change something."""
