"""Requests that are read in a limited time."""

import io
import socket
import time


class RequestReader(io.RawIOBase):
    """Reads what a client sends until its time is over.  A client that sends a byte now and then gets no more time."""

    def __init__(self, connection: socket.socket, patience_s: float):
        self._connection, self._end = connection, time.monotonic() + patience_s
        self.received = False  # anything at all

    def readable(self):
        return True

    def readinto(self, buffer):
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self.received |= count > 0
        return count
