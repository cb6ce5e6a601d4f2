"""Where a value was made: the line of the user's code, and the names of the scopes around."""

import os
import sys
from types import FrameType

import jax


def user_line() -> str:
    """The file and line of the innermost frame outside jax and this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


_LIBRARIES = (os.path.dirname(jax.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep, "<frozen")
