"""For authors: scaffold an exercise, derive what is derived, and the gate. Layer 5."""
