"""The data plane: HTTP/1.1 that moves file bytes without touching them."""
