"""What runs beside the learner's code.

This folder alone is mounted in the sandbox: nothing in it imports the rest of the kit, and
nothing in it knows an expectation.
"""
