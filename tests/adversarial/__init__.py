"""What an autograder must survive: submissions that try to get a better verdict than their answer deserves.

Cases are records, in modules by theme. `play` gives one to the real command line; `table` writes docs/security.md from
a real run.
"""

from __future__ import annotations

from . import bad_input, channels, clock, disclosure, forging, resources, tamper

THEMES = (forging, disclosure, clock, resources, tamper, channels, bad_input)
CASES = [case for theme in THEMES for case in theme.CASES]
