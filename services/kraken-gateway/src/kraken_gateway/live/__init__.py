"""Live feeds, and the doubts about them."""
