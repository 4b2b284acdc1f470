"""Small deviations of frames that a tolerant client accepts: numbers as strings, a float interval."""

import re

from kraken_simulator.faults import FaultBoard

_NUMBERS = re.compile(r'"(open|high|low|close|volume|vwap)":([0-9.]+)')
_INTERVAL = re.compile(r'"interval":(\d+),')


def deviating(text: str, faults: FaultBoard, symbol: str) -> str:
    """Return a frame of candles with the deviations of the running faults."""
    if not text.startswith('{"channel":"ohlc"'):
        return text
    if faults.on_symbol("string_numbers", symbol):
        text = _NUMBERS.sub(r'"\1":"\2"', text)
    if faults.on_symbol("float_interval", symbol):
        text = _INTERVAL.sub(r'"interval":\1.0,', text)
    return text
