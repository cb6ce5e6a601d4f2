"""The course's practicum, its practical tricks and the uses of Jacobians, each measured, and its notebooks."""
