"""The course's practicum, its practical tricks, each measured, and its notebooks."""
