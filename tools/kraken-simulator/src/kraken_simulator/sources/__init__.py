"""Sources of trades: synthetic markets, recorded trades, archive files of candles."""
