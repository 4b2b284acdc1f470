"""Where trades come from: synthetic markets, recorded trades, archive files of candles."""
