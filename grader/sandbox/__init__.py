"""Runs code that is not trusted, and carries plain data to it and back. Layer 2.

`inside/` is all that enters the sandbox; everything else here runs on the trusted side.
"""
