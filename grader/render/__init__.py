"""Verdicts and overviews as text. Layer 4: plain strings, no streams."""
