"""What every backend promises: one suite, run by all of them."""
