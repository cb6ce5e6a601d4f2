"""Every error that jaxnets raises on purpose."""


class ShapeError(ValueError):
    """An argument has a shape that does not fit; the message names it and gives expected and actual shape."""


class DTypeError(TypeError):
    """An argument has a dtype that does not fit: for example an integer where a derivative is asked."""


class JacobianTooLarge(MemoryError):
    """A dense Jacobian would not fit; the message gives its bytes and what to use instead."""


class RuleError(TypeError):
    """A layer has no Jacobian rule, a second one, or one that does not fit its arguments."""


class OpaqueError(TypeError):
    """A primitive without a Jacobian rule was met under `on_opaque="error"`."""


class SpecError(ValueError):
    """A model or layer description that cannot be read; the message names the word."""


class CheckpointError(ValueError):
    """A checkpoint that is corrupt, incomplete, of another run or no checkpoint; the message is one line and says which."""


class NonFiniteError(FloatingPointError):
    """Training met NaN or ∞; the message names the step, the first bad tensor and the last good checkpoint."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted, after its state was saved; the message names step and checkpoint."""
