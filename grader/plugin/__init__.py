"""The pytest side: runs a hidden suite in the trusted process. Layer 2."""
