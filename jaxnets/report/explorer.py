"""The page with live JAX behind it, served on 127.0.0.1 to whoever knows its address with the token.

Other pages in the same browser are kept out: `Host`, `Origin` and the token are checked.  The text of a model is read and
never evaluated, and everything is bounded in size and time.
"""

import collections
import contextlib
import hmac
import io
import json
import re
import secrets
import signal
import socket
import socketserver
import threading
import time
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

from .fields import FIELDS_BY_PATH, checked_fields, shown_query
from .reading import RequestReader
from .worker import BUSY, START_S, Job, Jobs, Refusal, Worker, run_job

CONNECTIONS = 128  # at one time; as many more are told that there is no place
LINGER_S = 2.0  # until a connection that is told so is closed
MAX_BODY = 256 * 1024  # bytes: of a request with 5,000 points
MAX_COMPARISONS = 32  # that are kept
MAX_LINE = 65536  # bytes of the first line
MAX_ERROR = 3000  # characters
REQUEST_LINE = re.compile(rb"(?P<method>[A-Za-z]+) [!-~\x80-\xff]+ HTTP/(?P<major>\d)\.\d\r?\n?")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Connection": "close",
}
JSON_TYPE = "application/json; charset=utf-8"
MORE_HEADERS = {405: {"Allow": "GET, POST"}, 503: {"Retry-After": "1"}}


def explore(
    port: int = 0,
    model: str = "spiral",
    open_browser: bool = True,
    input_shape: str = "",
    language: str = "en",
    link: str = "",
) -> None:
    """Print the address of the page, open it in the browser, and serve it until Ctrl-C.

    With `port` 0 a free port is taken.  The page begins with `model`: a preset, or a description with an input shape such as
    "2" or "1x8x8".  The address asks for a `language`, in which the page begins, and for what a copied `link` shows.
    """
    with (
        _ended_by_signals(),
        Explorer(port, model, input_shape, language=language, link=link) as explorer,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(explorer.url, flush=True)
        if open_browser:
            webbrowser.open(explorer.url)
        threading.Event().wait()


@contextlib.contextmanager
def _ended_by_signals():
    """SIGTERM and SIGHUP end the program as an exit does, with its workers.  A second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] != signal.SIG_IGN]  # `nohup` has SIGHUP ignored

    def end(number, frame):
        for other in handled:
            signal.signal(other, signal.SIG_DFL)
        raise SystemExit(128 + number)

    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


class Explorer:
    """The server and its workers: a context manager that serves the page at `url` until it ends.

    Comparisons take longest, so they have a worker of their own, from the first one on, and are kept.  `limit_s` is how many
    seconds a job may take, a comparison five times as many, and `waiting` how many jobs may wait for their turn.
    `patience_s` is how many seconds a client has to send its request, and `jobs` what the workers run.  `language` is the
    one that `url` asks for, unless that shows what a copied `link` shows.  Raises OSError where the port is taken.
    """

    def __init__(
        self,
        port: int = 0,
        model: str = "spiral",
        input_shape: str = "",
        *,
        limit_s: float = 60,
        waiting: int = 16,
        patience_s: float = 10,
        jobs: Jobs = run_job,
        language: str = "en",
        link: str = "",
    ):
        self.token = secrets.token_urlsafe(16)
        self.patience_s = patience_s
        self._first_problem: Job = {"model": model, "input": input_shape, "batch": 4, "dtype": "float64", "seed": 0}
        self._limits = (jobs, limit_s, waiting)
        self._page: str | None = None
        self._page_lock = threading.Lock()
        self._comparisons: dict[str, str] = {}
        self._comparing_lock = threading.Lock()
        self._comparing: Worker | None = None
        self._stopped = False
        self._server = _Server(port, self)
        self.hosts = tuple(f"{name}:{self._server.server_address[1]}" for name in ("127.0.0.1", "localhost"))
        self.url = f"http://{self.hosts[0]}/?token={self.token}{shown_query(link, language)}"

    def start(self):
        self.worker = Worker(*self._limits)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self.worker.stop()
        with self._comparing_lock:
            self._stopped = True
        if self._comparing is not None:
            self._comparing.stop()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def page(self) -> str:
        """The page in HTML, which is computed when it is first asked for."""
        from ..learn.progress import stage  # with it JAX is loaded: not before the address is told

        with self._page_lock:
            if self._page is None:
                live = {"token": self.token, **self._first_problem}
                with stage("the page for the browser", "loading JAX, then computing it"):
                    self._page = self.worker({"job": "page", **self._first_problem, "live": live}, START_S)
            return self._page

    def comparison(self, problem: Job, is_wanted: Callable[[], bool]) -> str:
        """The comparisons of a model in JSON: those of the last time, if it was asked for before."""
        key = json.dumps(problem, sort_keys=True)
        found = self._comparisons.get(key)
        if found is None:
            found = self._comparing_worker()({"job": "compare", **problem}, 5 * self._limits[1], is_wanted)
            with self._comparing_lock:
                self._comparisons[key] = found
                for old in list(self._comparisons)[:-MAX_COMPARISONS]:
                    del self._comparisons[old]
        return found

    def _comparing_worker(self) -> Worker:
        with self._comparing_lock:
            if self._stopped:
                raise Refusal(503, "the explorer has ended")
            if self._comparing is None:
                self._comparing = Worker(*self._limits)
            return self._comparing


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, port: int, explorer: Explorer):
        self.explorer = explorer
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._refused: collections.deque[tuple[float, socket.socket]] = collections.deque()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request, client_address):
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self._refuse(request)

    def _refuse(self, request):
        """Answer that there is no place, without waiting for the request.

        The connection is closed some time later: at once, that might cut off the answer before the client has read it.
        """
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_busy_answer())
            request.shutdown(socket.SHUT_WR)
        self._refused.append((time.monotonic() + LINGER_S, request))

    def service_actions(self):
        """Close connections that were refused a while ago; `serve_forever` calls this again and again."""
        super().service_actions()
        while self._refused and (len(self._refused) > CONNECTIONS or self._refused[0][0] < time.monotonic()):
            self.close_request(self._refused.popleft()[1])

    def server_close(self):
        super().server_close()
        while self._refused:
            self.close_request(self._refused.popleft()[1])

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request, client_address):
        """Say nothing: a client that breaks off is no error of the server."""


def _busy_answer() -> bytes:
    content = json.dumps({"error": BUSY}).encode()
    headers = HEADERS | MORE_HEADERS[503] | {"Content-Type": JSON_TYPE, "Content-Length": str(len(content))}
    lines = ["HTTP/1.0 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + content


class _Handler(BaseHTTPRequestHandler):
    """Answers one request per connection.  Every error is JSON: {"error": one line}."""

    server: _Server

    def setup(self):
        super().setup()
        self.explorer = self.server.explorer
        self.rfile.close()
        self._reader = RequestReader(self.connection, self.explorer.patience_s)
        self.rfile = io.BufferedReader(self._reader)

    def finish(self):
        super().finish()
        with contextlib.suppress(OSError):  # closing before the client has sent everything might cut off the answer
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            for _ in range(16):
                if not self.connection.recv(65536):
                    break

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        """Answer one request.  A client that sends nothing gets nothing."""
        self.command, self.requestline = "", ""
        try:
            self.raw_requestline = self.rfile.readline(MAX_LINE + 1)
            is_good = bool(self.raw_requestline) and self._check_line() and self.parse_request()
        except TimeoutError:
            if self._reader.received:
                self._refuse(self._too_slow())
            return
        if is_good:
            self._reply(self._get if self.command == "GET" else self._post)

    def _check_line(self) -> bool:
        """Whether the first line is one of HTTP/1 with a method that is known.  If not, it is answered."""
        line = REQUEST_LINE.fullmatch(self.raw_requestline)
        if len(self.raw_requestline) > MAX_LINE:
            self.send_error(414)
        elif line is None:
            self._refuse(Refusal(400, "the first line is not METHOD PATH HTTP/1.1"))
        elif line["major"] != b"1":
            self.send_error(505)
        elif line["method"] not in (b"GET", b"POST"):
            self.command = line["method"].decode()
            self.send_error(405)
        else:
            return True
        return False

    def send_error(self, code, message=None, explain=None):
        """Answer what the base class finds wrong: lines, headers, versions."""
        self._refuse(Refusal(code, HTTPStatus(code).phrase))

    def _too_slow(self) -> Refusal:
        return Refusal(408, f"the request took longer than {self.explorer.patience_s:g} s to come")

    def _reply(self, method):
        try:
            self._check_origin()
            kind, text = method()
        except Refusal as refusal:
            self._refuse(refusal)
        except TimeoutError:
            self._refuse(self._too_slow())
        except Exception:  # whatever it is, the client gets one line and the server goes on
            self._refuse(Refusal(500, "the explorer failed"))
        else:
            self._send(200, kind, text)

    def _get(self):
        path, _, query = self.path.partition("?")
        if path != "/":
            raise Refusal(404, "no such page")
        self._check_token(parse_qs(query).get("token", [""])[0])
        return "text/html", self.explorer.page()

    def _post(self):
        if self.path not in FIELDS_BY_PATH:
            raise Refusal(404, "no such page")
        self._check_token(self._header("X-Token"))
        fields = checked_fields(self._body(), FIELDS_BY_PATH[self.path])
        if self.path == "/compare":
            return "application/json", self.explorer.comparison(fields, self._client_waits)
        return "application/json", self.explorer.worker({"job": self.path[1:], **fields}, is_wanted=self._client_waits)

    def _client_waits(self) -> bool:
        """Whether the client has not closed its connection, nor its half of it, as one does that goes."""
        try:
            self.connection.setblocking(False)
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _header(self, name: str) -> str:
        """The value of a header that may occur once, or "" if it does not occur."""
        values = self.headers.get_all(name, [])
        if len(values) > 1:
            raise Refusal(400, f"several headers {name}")
        return values[0].strip() if values else ""

    def _check_origin(self):
        host, origin = self._header("Host"), self._header("Origin")
        if host not in self.explorer.hosts:
            raise Refusal(403, f"Host must be {' or '.join(self.explorer.hosts)}")
        if origin and origin != f"http://{host}":
            raise Refusal(403, f"Origin must be http://{host}")

    def _check_token(self, token: str):
        if not hmac.compare_digest(token.encode(errors="replace"), self.explorer.token.encode()):
            raise Refusal(403, "the token is missing or wrong: use the whole address that `jaxnets explore` printed")

    def _body(self) -> bytes:
        length = self._header("Content-Length")
        if not length or self._header("Transfer-Encoding"):
            raise Refusal(411, "Content-Length is missing; a body in chunks is not read")
        if not re.fullmatch(r"\d{1,18}", length, re.ASCII):
            raise Refusal(400, "Content-Length is not a number")
        if int(length) > MAX_BODY:
            raise Refusal(413, f"the body has more than {MAX_BODY:,} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refusal(400, "the body is shorter than Content-Length")
        return body

    def _refuse(self, refusal: Refusal):
        line = " ".join(refusal.text.split())
        self._send(refusal.status, "application/json", json.dumps({"error": line[:MAX_ERROR]}))

    def _send(self, status: int, kind: str, text: str):
        content = text.encode(errors="replace")
        self.connection.settimeout(self.explorer.patience_s)
        self.request_version = "HTTP/1.0"  # to none but these the base class sends a status and headers
        self.send_response_only(status)
        more = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            **MORE_HEADERS.get(status, {}),
        }
        for name, value in (HEADERS | more).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
