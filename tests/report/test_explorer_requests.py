"""The explorer refuses bad requests in one line, and nothing takes the server or its worker down.

JAX is not imported here: the process of a worker with the made-up jobs of this file loads the file too.
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxnets.report.explorer import CONNECTIONS, HEADERS, Explorer

from .asking import MODEL, STEP, answer, ask, error

LIMIT_S, PATIENCE_S = 1.5, 1.0


def made_up(job, state):
    """Jobs without JAX, told what to do by the text of the model; the state counts the jobs of training."""
    word = job.get("model", "")
    if word.startswith("sleep"):
        time.sleep(float(word.split()[1]))
    if word == "die":
        os._exit(1)
    if word == "refuse":
        raise ValueError("relu: no\n  such thing")
    if word == "busy":  # with a process of its own, and without a pause
        subprocess.Popen(["sleep", "100"])
        while True:
            pass
    if word == "break":
        raise RuntimeError("a fault")
    count = int(state or 0) + (job["job"] == "train")
    return json.dumps({"pid": os.getpid(), "count": count, **job}), str(count).encode()


@pytest.fixture(scope="module")
def fast():
    with Explorer(limit_s=LIMIT_S, patience_s=PATIENCE_S, jobs=made_up) as found:
        yield found


def port(explorer):
    return int(explorer.hosts[0].split(":")[1])


def raw(explorer, data, half_close=True):
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port(explorer)), timeout=20) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while more := connection.recv(65536):
            found += more
    return found


def request(explorer, *lines, body=b"", start="POST /model HTTP/1.1"):
    """The bytes of a request: host and token, then these lines in their place where they name the same header."""
    headers = {"host": f"Host: {explorer.hosts[0]}", "x-token": f"X-Token: {explorer.token}"}
    for line in lines:
        headers.pop(line.split(":")[0].lower(), None)
    text = "\r\n".join([start, *headers.values(), *(line for line in lines if not line.endswith(": -")), "", ""])
    return text.encode("latin-1") + body


# --- bad requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("model", 3, "a text"),
        ("model", "a" * 2001, "at most 2,000 characters"),
        ("input", 2, "a shape"),
        ("input", "2x", "a shape"),
        ("input", "0", "a shape"),
        ("input", "-2", "a shape"),
        ("input", "1２", "a shape"),
        ("input", "64x65", "at most 4,096 numbers"),
        ("input", "1" + "x1" * 8, "8 axes"),
        ("batch", 0, "from 1 to 64"),
        ("batch", 65, "from 1 to 64"),
        ("batch", 2.0, "a whole number"),
        ("batch", True, "a whole number"),
        ("batch", None, "got null"),
        ("seed", -1, "from 0"),
        ("seed", 2**31, "to 2,147,483,647"),
        ("seed", "1", "a whole number"),
        ("seed", [[1]], "got a list"),
        ("dtype", "float16", "float32 or float64"),
        ("dtype", ["float32"], "float32 or float64"),
        ("action", "stop", "reset or step"),
        ("steps", 0, "from 1 to 50"),
        ("steps", 51, "from 1 to 50"),
    ],
)
def test_every_field_has_its_limits(fast, field, value, expected):
    status, text = error(ask(fast, "/train", {**STEP, field: value}))
    assert status == 400
    assert text.startswith(f"{field}: expected ")
    assert expected in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "a" * 2000),
        ("input", ""),
        ("input", "64x64"),
        ("batch", 1),
        ("batch", 64),
        ("seed", 0),
        ("seed", 2**31 - 1),
        ("steps", 1),
        ("steps", 50),
    ],
)
def test_the_limits_themselves_are_good(fast, field, value):
    found = answer(fast, "/train", {**STEP, field: value})
    assert found[field] == value
    assert found["job"] == "train"


def test_fields_are_neither_missing_nor_unknown(fast):
    for path, fields in (("/model", MODEL), ("/compare", MODEL), ("/train", STEP)):
        for name in fields:
            status, text = error(ask(fast, path, {key: value for key, value in fields.items() if key != name}))
            assert (status, text.split(":")[0]) == (400, name)
        assert error(ask(fast, path, {**fields, "job": "page"}))[1].startswith('unknown field "job"')
    assert error(ask(fast, "/model", STEP))[1].startswith('unknown field "action"')


GOOD = json.dumps(MODEL).encode()
LENGTH = f"Content-Length: {len(GOOD)}"


@pytest.mark.parametrize(
    ("lines", "status", "expected"),
    [
        ([], 200, "linear"),
        (["Host: localhost:PORT"], 200, "linear"),
        (["Origin: http://127.0.0.1:PORT"], 200, "linear"),
        (["Host: evil.example"], 403, "Host"),
        (["Host: 127.0.0.1"], 403, "Host"),
        (["Host: 127.0.0.1:1"], 403, "Host"),
        (["Host: evil.example:PORT"], 403, "Host"),
        (["Host: -"], 403, "Host"),
        (["Host: 127.0.0.1:PORT", "Host: evil.example"], 400, "several headers Host"),
        (["Origin: http://evil.example"], 403, "Origin"),
        (["Origin: https://127.0.0.1:PORT"], 403, "Origin"),
        (["Origin: http://localhost:PORT"], 403, "Origin"),
        (["Origin: null"], 403, "Origin"),
        (["X-Token: -"], 403, "token"),
        (["X-Token: wrong"], 403, "token"),
        (["X-Token: \xe4\xf6"], 403, "token"),
        (["Transfer-Encoding: chunked"], 411, "chunks"),
        (["Content-Length: -"], 411, "Content-Length"),
        (["Content-Length: ten"], 400, "Content-Length"),
        (["Content-Length: +10"], 400, "Content-Length"),
        (["Content-Length: -1"], 400, "Content-Length"),
        (["Content-Length: " + "9" * 5000], 400, "Content-Length"),
        ([LENGTH, LENGTH], 400, "several headers Content-Length"),
        ([f"Content-Length: {len(GOOD) + 1}"], 400, "shorter"),
        (["Content-Length: 262145"], 413, "262,144"),
        ([f"X-Long: {'a' * 70000}"], 431, "Large"),
        ([f"X-{i}: 1" for i in range(200)], 431, "Large"),
    ],
    ids=lambda value: ", ".join(value)[:40] if isinstance(value, list) else None,
)
def test_headers_are_checked(fast, lines, status, expected):
    lines = [line.replace("PORT", str(port(fast))) for line in lines]
    if not any(line.startswith("Content-Length") for line in lines):
        lines.append(LENGTH)
    head, _, body = raw(fast, request(fast, *lines, body=GOOD)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ".encode())
    assert all(f"{name}: {value}".encode() in head for name, value in HEADERS.items())
    found = json.loads(body)
    assert expected in (found["model"] if status == 200 else found["error"])


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("GET /?token=TOKEN HTTP/1.1", 200),
        ("GET / HTTP/1.1", 403),
        ("GET /?token= HTTP/1.1", 403),
        ("GET /?token=TOKENx HTTP/1.1", 403),
        ("GET /?token=%FF HTTP/1.1", 403),
        ("GET /page.js?token=TOKEN HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("GET http://evil.example/?token=TOKEN HTTP/1.1", 404),
        ("GET /model HTTP/1.1", 404),
        ("POST / HTTP/1.1", 404),
        ("POST /start HTTP/1.1", 404),
        ("POST /page HTTP/1.1", 404),
        ("PUT /model HTTP/1.1", 405),
        ("OPTIONS /model HTTP/1.1", 405),
        ("HEAD / HTTP/1.1", 405),
        ("BREW /pot HTTP/1.1", 405),
        ("nonsense", 400),
        ("", 400),
        ("GET /?token=TOKEN", 400),  # HTTP/0.9, which has no headers
        ("GET /?token=TOKEN HTTP/0.9", 505),
        ("get /?token=TOKEN HTTP/1.1", 405),
        ("GET  / HTTP/1.1", 400),
        ("GET / / HTTP/1.1", 400),
        ("GET /\x00 HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET / HTTP/11.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("send_error / HTTP/1.1", 400),
        ("GET / HTTP/x", 400),
        ("GET / HTTP/3.0", 505),
        (f"GET /{'a' * 70000} HTTP/1.1", 414),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_there_are_four_addresses_and_two_methods(fast, start, status):
    found = raw(fast, request(fast, start=start.replace("TOKEN", fast.token)))
    assert found.startswith(f"HTTP/1.0 {status} ".encode())
    assert all(f"{name}: {value}".encode() in found for name, value in HEADERS.items())
    assert (b"Allow: GET, POST" in found) == (status == 405)
    assert found.endswith(b"\r\n\r\n") == start.startswith("HEAD")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff" + GOOD, GOOD.replace(b"2,", b"NaN,"), GOOD.replace(b"2,", b"1e999,"), b"[" * 16000],
    ids=["empty", "cut", "list", "number", "no UTF-8", "NaN", "infinite", "deep"],
)
def test_bodies_are_json_objects(fast, body):
    found = raw(fast, request(fast, f"Content-Length: {len(body)}", body=body))
    assert found.startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "a byte now and then"])
def test_a_slow_client_is_cut_off(fast, drip, capfd):
    start = time.monotonic()
    silent = socket.create_connection(("127.0.0.1", port(fast)), timeout=20)
    with socket.create_connection(("127.0.0.1", port(fast)), timeout=20) as connection:
        connection.sendall(request(fast, LENGTH, body=GOOD[:10]))
        stop = threading.Event()

        def send():
            while drip and not stop.wait(PATIENCE_S / 5):
                connection.sendall(b" ")

        sender = threading.Thread(target=send)
        sender.start()
        assert connection.recv(20).startswith(b"HTTP/1.0 408 ")
        stop.set()
        sender.join()
    assert silent.recv(20) == b""
    silent.close()
    assert PATIENCE_S * 0.9 < time.monotonic() - start < PATIENCE_S + 5
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "sent", [b"GET", b"GET / HTTP/1.1\r\nHost: x", b"\r"], ids=["half a line", "half a header", "nearly nothing"]
)
def test_a_client_that_stops_in_the_middle_is_told_so(fast, sent):
    found = raw(fast, sent, half_close=False)
    assert found.startswith(b"HTTP/1.0 408 ") and b"the request took longer than 1 s" in found


def test_a_line_without_a_version_is_answered_at_once(fast):
    start = time.monotonic()
    assert raw(fast, f"GET /?token={fast.token}\r\n".encode(), half_close=False).startswith(b"HTTP/1.0 400 ")
    assert time.monotonic() - start < PATIENCE_S / 2 + 1  # also a client that goes on listening


def test_a_huge_body_is_refused_before_it_is_sent(fast):
    """The client goes on sending, and still gets the answer."""
    with socket.create_connection(("127.0.0.1", port(fast)), timeout=20) as connection:
        connection.sendall(request(fast, f"Content-Length: {10**12}"))
        with contextlib.suppress(OSError):
            for _ in range(8):
                connection.sendall(bytes(65536))
        assert connection.recv(20).startswith(b"HTTP/1.0 413 ")


def test_only_this_machine_is_served(fast):
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port(fast)), timeout=2).close()


def test_many_idle_connections_leave_the_server_alive(fast):
    idle = [socket.create_connection(("127.0.0.1", port(fast)), timeout=20) for _ in range(2 * CONNECTIONS)]
    time.sleep(PATIENCE_S / 2)
    assert threading.active_count() < CONNECTIONS + 30
    for connection in idle:
        connection.close()
    _eventually(lambda: ask(fast, "/model", MODEL)[0] == 200)


def test_a_client_without_a_place_is_told_so(fast):
    idle = [socket.create_connection(("127.0.0.1", port(fast)), timeout=20) for _ in range(CONNECTIONS)]
    try:
        time.sleep(0.2)
        status, headers, text = ask(fast, "/model", MODEL)
    finally:
        for connection in idle:
            connection.close()
    assert error((status, headers, text)) == (503, "busy: too many requests wait; try again in a moment")
    assert set(HEADERS) | {"Retry-After"} <= set(headers)
    _eventually(lambda: ask(fast, "/model", MODEL)[0] == 200)


def test_work_of_clients_that_have_gone_is_not_begun():
    with Explorer(jobs=made_up) as explorer:
        before = answer(explorer, "/train", STEP)["count"]
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(ask, explorer, "/model", {**MODEL, "model": "sleep 1"})
            time.sleep(0.3)
            body = json.dumps(STEP).encode()
            for _ in range(8):
                with socket.create_connection(("127.0.0.1", port(explorer)), timeout=20) as connection:
                    length = f"Content-Length: {len(body)}"
                    connection.sendall(request(explorer, length, body=body, start="POST /train HTTP/1.1"))
            assert running.result()[0] == 200
        assert answer(explorer, "/train", STEP)["count"] == before + 1


def _eventually(check):
    """A server whose places are taken closes the connection: try again for some seconds."""
    end = time.monotonic() + 10
    while True:
        try:
            if check():
                return
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


def _malformed(chance, explorer):
    """Bytes that are hardly ever a good request."""
    good = request(explorer, LENGTH, body=GOOD)
    data = bytearray(good)
    kind = chance.randrange(6)
    if kind == 0:
        data = data[: chance.randrange(len(data))]
    elif kind == 1:
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 2:
        verb = "".join(chance.choices("GETPOSUDAC\x00 /\xe9", k=chance.randint(0, 9)))
        data = bytearray(verb.encode("latin-1") + good[4:])
    elif kind == 3:
        length = chance.choice(["-5", "0", "1e3", "99999999999", "0x10", "", "262144", str(chance.randrange(300))])
        data = bytearray(request(explorer, f"Content-Length: {length}", body=GOOD))
    elif kind == 4:
        data = bytearray(chance.randbytes(chance.randrange(2000)))
    else:
        at = chance.randrange(len(data))
        data[at:at] = chance.choice([b"\r\n", b"\n\n", b"\0", b"\r\n\r\n", b":", b"\xff\xfe", b"{" * 500, good])
    return bytes(data)


def test_a_thousand_malformed_requests_change_nothing(fast, capfd):
    chance = random.Random(0)
    worker = answer(fast, "/model", MODEL)["pid"]
    statuses = set()
    for i in range(1000):
        data = _malformed(chance, fast)
        if i % 20 == 0:  # gone at once, without and with a reset
            connection = socket.create_connection(("127.0.0.1", port(fast)), timeout=20)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", i % 40 == 0, 0))
            connection.sendall(data)
            connection.close()
            continue
        found = raw(fast, data)
        head, _, body = found.partition(b"\r\n\r\n")
        assert not found or re.match(rb"HTTP/1\.0 (200|4\d\d|501|505) ", head), (data, found)
        if found:
            statuses.add(int(head[9:12]))
            assert body.count(b"\n") == 0
            assert b"Traceback" not in body
            assert b'File "' not in body
    assert statuses >= {400, 403, 404, 405, 411, 413}
    assert answer(fast, "/model", MODEL)["pid"] == worker
    assert capfd.readouterr() == ("", "")


# --- the worker -----------------------------------------------------------------------------------------------------


def test_a_job_that_takes_too_long_or_dies_costs_nothing_but_itself(fast):
    def train(word="learn"):
        return ask(fast, "/train", {**STEP, "model": word})

    page = ask(fast, f"/?token={fast.token}", method="GET")[2]
    for word, expected in (
        ("sleep 60", (504, f"train: took longer than {LIMIT_S} s; try a smaller model, input or batch")),
        ("die", (500, "train: the computation broke off, for lack of memory perhaps")),
    ):
        before = json.loads(train()[2])
        assert error(train(word)) == expected
        with pytest.raises(ProcessLookupError):
            os.kill(before["pid"], 0)
        after = json.loads(train()[2])
        assert after["pid"] != before["pid"]
        assert after["count"] == before["count"] + 1
    for more in range(1, 4):
        os.kill(json.loads(ask(fast, "/model", MODEL)[2])["pid"], signal.SIGKILL)  # between two jobs, noticed or not
        assert json.loads(train()[2])["count"] == after["count"] + more
    assert error(train("refuse")) == (400, "relu: no such thing")
    assert error(train("break")) == (500, "train: RuntimeError: a fault")
    assert json.loads(train()[2])["count"] == after["count"] + 4
    assert ask(fast, f"/?token={fast.token}", method="GET")[2] == page


def test_few_wait_and_the_others_are_told_so():
    with Explorer(waiting=2, jobs=made_up) as explorer:
        answer(explorer, "/model", MODEL)
        with ThreadPoolExecutor(10) as pool:
            found = list(pool.map(lambda _: ask(explorer, "/model", {**MODEL, "model": "sleep 0.7"}), range(10)))
        refused = [one for one in found if one[0] != 200]
        assert len(refused) == 7
        for one in refused:
            assert error(one)[0] == 503
            assert int(one[1]["Retry-After"]) > 0
        assert answer(explorer, "/model", MODEL)

        with ThreadPoolExecutor(3) as pool:  # what waits at the end does not hold it up
            left = [pool.submit(ask, explorer, "/model", {**MODEL, "model": "sleep 60"}) for _ in range(3)]
            time.sleep(0.3)
            start = time.monotonic()
            explorer.stop()
            assert time.monotonic() - start < 5
            assert sorted(one.result()[0] for one in left) == [500, 503, 503]
        with pytest.raises(ConnectionError):
            ask(explorer, "/model", MODEL)


# --- the end --------------------------------------------------------------------------------------------------------

MADE_UP = """
import functools
from jaxnets.report import explorer
from tests.report.test_explorer_requests import made_up
explorer.Explorer = functools.partial(explorer.Explorer, jobs=made_up)
if __name__ == "__main__":
    explorer.explore(open_browser=False)
"""


def descendants(pid):
    """The processes that a process and those that it started have started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [one for child in found for one in descendants(child)]


def is_running(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 0), ("SIGKILL", -9)])
def test_a_signal_ends_the_explorer_with_a_worker_that_is_busy(name, status, tmp_path):
    script, started = tmp_path / "made_up.py", []
    script.write_text(MADE_UP)
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        host, token = re.fullmatch(r"http://(.*)/\?token=(.*)\n", process.stdout.readline()).groups()
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", "/model", json.dumps({**MODEL, "model": "busy"}), {"X-Token": token})
        _eventually(lambda: any("sleep" in Path(f"/proc/{pid}/comm").read_text() for pid in descendants(process.pid)))
        started = descendants(process.pid)
        process.send_signal(getattr(signal, name))
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == status
        end = time.monotonic() + 3
        while left := [pid for pid in started if is_running(pid)]:
            assert time.monotonic() < end, left
            time.sleep(0.05)
    finally:
        process.kill()
        for pid in started:  # those that do not end would keep a core busy
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
