"""What we believe about subscriptions: live feeds, what they cover, and which are stale."""
