"""asyncblob beside other clients: ``python -m benchmarks``, from a checkout with the ``[bench]`` extra."""
