"""Bulk work on years of candles: archive files, roll-up, import, export, verification.

It uses polars data frames (`pip install "crypto-ingress[history]"`, decision 40); the services do not need it.
"""
