"""Live feeds: what they cover, and which subscriptions are stale."""
