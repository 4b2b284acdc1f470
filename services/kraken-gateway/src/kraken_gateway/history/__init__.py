"""What is asked for: the past by REST, and the seeds."""
