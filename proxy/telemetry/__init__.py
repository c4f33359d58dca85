"""Spans, metrics and logs, wrapped around ports at the composition root."""
