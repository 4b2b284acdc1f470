"""Other clients and ours on the same simulated minutes with the same faults."""
