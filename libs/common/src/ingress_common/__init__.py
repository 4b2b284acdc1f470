"""Shared by all services: candles, timeframes, topics, the MQTT session, settings, logs, metrics, health."""
