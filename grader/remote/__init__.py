"""Calls into a sandbox: what a suite and the diagnosis ask of a submission, and what came back. Layer 2."""
