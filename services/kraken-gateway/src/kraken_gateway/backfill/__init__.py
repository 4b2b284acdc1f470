"""What we owe to whom: seeds and history that were requested."""
