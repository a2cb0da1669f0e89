"""What the tests stand on: servers to talk to and checks that nothing was left behind."""
