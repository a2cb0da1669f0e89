"""The documentation of the Go package `store`, from which asyncblob grew: every row of it has a test that quotes it."""
