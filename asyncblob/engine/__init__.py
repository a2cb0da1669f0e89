"""How a transfer runs, whatever moves the bytes: planning, scheduling, retries, progress, cancellation, lifecycle."""
