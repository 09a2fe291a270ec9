"""Verdicts for other programs: compilers' messages, annotations, test reports. Layer 4."""
