"""Every error that jaxnets raises on purpose."""


class ShapeError(ValueError):
    """An argument has a shape that does not fit.  The message names it and gives the expected and the actual shape."""


class DTypeError(TypeError):
    """An argument has a dtype that does not fit, for example integers where a derivative is asked for."""


class JacobianTooLarge(MemoryError):
    """A dense Jacobian would not fit in memory.  The message gives its size and says what to use instead."""


class RuleError(TypeError):
    """A layer has no Jacobian rule, gets a second one, or has one that does not fit its arguments."""


class OpaqueError(TypeError):
    """A primitive without a Jacobian rule was met under `on_opaque="error"`."""


class MutableStateError(TypeError):
    """A function changes an object outside of it while it is read, as the statistics of a Flax model in training."""


class SpecError(ValueError):
    """The description of a model cannot be read.  The message names the word that does not fit."""


class CheckpointError(ValueError):
    """A checkpoint is corrupt, incomplete, of another run, or no checkpoint.  The message is one line that says which."""


class NonFiniteError(FloatingPointError):
    """Training met NaN or ∞.  The message names the step, the first bad tensor and the last good checkpoint."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted, after its state was saved.  The message names the step and the checkpoint."""
