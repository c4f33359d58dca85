"""Dialects: bytes to model and back, one file each."""
