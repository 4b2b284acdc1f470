"""What the services of Crypto Ingress share: candles, timeframes, topics, the MQTT session, settings, logs, metrics,
health.
"""
