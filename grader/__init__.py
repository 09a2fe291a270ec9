"""The interview-prep exercise kit and its grader."""

__version__ = "0.1.0"
