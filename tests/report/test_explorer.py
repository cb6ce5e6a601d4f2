"""The explorer: answers equal the library's, bad requests are refused in one line, and nothing takes the server down.

JAX is imported in the tests that need it: the process of a worker with the made-up jobs of this file loads the file too.
"""

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
from urllib.request import urlopen

import pytest

from jaxnets.report.explorer import CONNECTIONS, HEADERS, Explorer

MODEL = {"model": "linear(3) log_softmax", "input": "2", "batch": 2, "dtype": "float64", "seed": 1}
STEP = {**MODEL, "action": "step"}
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
    if word == "break":
        raise RuntimeError("a fault")
    count = int(state or 0) + (job["job"] == "train")
    return json.dumps({"pid": os.getpid(), "count": count, **job}), str(count).encode()


@pytest.fixture(scope="module")
def explorer():
    """With a real worker, which compiles as this process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        with Explorer(0, MODEL["model"], MODEL["input"], limit_s=120) as found:
            yield found


@pytest.fixture(scope="module")
def fast():
    with Explorer(limit_s=LIMIT_S, patience_s=PATIENCE_S, jobs=made_up) as found:
        yield found


def port(explorer):
    return int(explorer.hosts[0].split(":")[1])


def ask(explorer, path, fields=None, method="POST", **headers):
    """Status, headers and body of one answer; `fields` as JSON."""
    connection = http.client.HTTPConnection(explorer.hosts[0], timeout=120)
    body = None if fields is None else json.dumps(fields)
    connection.request(method, path, body, {"X-Token": explorer.token, **headers})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def answer(explorer, path, fields):
    status, _, text = ask(explorer, path, fields)
    assert status == 200, text
    return json.loads(text)


def error(status_headers_text):
    status, headers, text = status_headers_text
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    found = json.loads(text)
    assert list(found) == ["error"]
    assert "\n" not in found["error"]
    return status, found["error"]


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


# --- answers are the library's --------------------------------------------------------------------------------------


def network(dtype):
    """The model of the requests as plain `jax.numpy`, with its parameters and inputs."""
    import jax

    from jaxnets.learn.presets import make_problem

    with jax.enable_x64(dtype == "float64"):
        found = make_problem(MODEL["model"], (2,), 2, MODEL["seed"], dtype)
    return found.params, found.x, lambda params, x: jax.nn.log_softmax(x @ params[0]["w"].T + params[0]["b"])


def test_the_page_is_on_the_model_and_has_every_part(explorer):
    with urlopen(explorer.url, timeout=120) as found:
        html = found.read().decode()
        assert found.headers["Content-Type"] == "text/html; charset=utf-8"
        assert {name: found.headers[name] for name in HEADERS} == HEADERS
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S).group(1))
    assert data["live"] == {"token": explorer.token, **MODEL, "batch": 4, "seed": 0}
    assert data["title"] == MODEL["model"]
    assert [module["name"] for module in data["modules"]][:2] == ["linear", "log_softmax"]
    assert len(data["saturation"]["panels"]) > 2
    assert data["replay"]["frames"][-1]["step"] > 100
    assert data["comparisons"] is None
    assert data["benchmarks"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_modules_have_the_jacobians_of_the_model(explorer, dtype):
    import jax

    params, x, _ = network(dtype)
    content = answer(explorer, "/model", {**MODEL, "dtype": dtype})["content"]
    assert content["about"]["dtype"] == dtype
    assert "comparisons" not in content
    linear, log_softmax = content["modules"][:2]
    by_x = next(j for j in linear["jacobians"] if j["argument"] == "x")
    assert by_x["values"] == [[pytest.approx(w, rel=2e-6) for w in row] for row in params[0]["w"].tolist()]
    z = x[0] @ params[0]["w"].T + params[0]["b"]
    expected = jax.jacrev(jax.nn.log_softmax)(z).tolist()
    assert log_softmax["jacobians"][0]["values"] == [[pytest.approx(d, rel=1e-5) for d in row] for row in expected]


def test_comparisons_tell_of_every_block(explorer):
    comparisons = answer(explorer, "/compare", MODEL)["comparisons"]
    sizes = {"b": 3, "w": 6, "x": 4}  # of 2 examples
    for found, outputs in zip(comparisons, (6, 1), strict=True):  # the network's, and its average loss
        assert found["ok"]
        assert found["dtype"] == "float64"
        assert found["milliseconds"]["jacfwd"] > 0
        assert len(found["blocks"]) == 3
        for block, inputs in zip(found["blocks"], sizes.values(), strict=True):
            assert block["dense"] == 8 * outputs * inputs
            assert block["errors"]["jacrev"]["absolute"] < 1e-14


def test_training_goes_on_step_by_step(explorer):
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    params, _, apply = network("float64")
    replay = answer(explorer, "/train", {**MODEL, "action": "reset"})["replay"]
    frames = replay["frames"] + [
        answer(explorer, "/train", STEP)["frame"],
        answer(explorer, "/train", {**STEP, "steps": 3})["frame"],
    ]
    assert [frame["step"] for frame in frames] == [0, 1, 4]
    x, y = jnp.asarray(replay["x"]), jnp.asarray(replay["y"])

    def loss(params):
        return -jnp.mean(apply(params, x)[jnp.arange(len(y)), y])

    optimizer = optax.adam(0.02)
    moments = optimizer.init(params)
    left, right, bottom, top = replay["extent"]
    grid = np.stack(np.meshgrid(np.linspace(left, right, replay["size"]), np.linspace(bottom, top, replay["size"])), -1)
    for step in range(5):
        if frames[0]["step"] == step:
            frame = frames.pop(0)
            assert frame["loss"] == pytest.approx(float(loss(params)), rel=1e-3)  # points have four places on the page
            assert frame["norms"][0] == pytest.approx(float(jnp.linalg.norm(params[0]["w"])), rel=1e-3)
            classes = [(ord(code) - 48) // 8 for code in frame["regions"]]
            agree = np.asarray(apply(params, grid.reshape(-1, 2))).argmax(1) == classes
            assert agree.mean() > 0.995
        updates, moments = optimizer.update(jax.jit(jax.grad(loss))(params), moments)
        params = optax.apply_updates(params, updates)
    assert not frames


def test_training_of_another_model_is_to_be_reset_first(explorer):
    answer(explorer, "/train", {**MODEL, "action": "reset"})
    status, text = error(ask(explorer, "/train", {**STEP, "seed": 2}))
    assert status == 400
    assert "reset" in text
    assert answer(explorer, "/train", STEP)["frame"]["step"] == 1


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/model", {"model": "linear(3) lock_softmax"}, "unknown word 'lock_softmax'"),
        ("/model", {"model": "__import__('os')"}, "cannot read"),
        ("/model", {"model": " "}, "empty"),
        ("/model", {"model": "linear(3) conv(2)"}, r"conv\(2, 3\): one example has shape \(3,\)"),
        ("/model", {"model": "spiral"}, "has its own input"),
        ("/model", {"model": "relu " * 65}, "65 modules, at most 64"),
        ("/model", {"model": "linear(70000)"}, "210,000 parameters, at most 200,000"),
        ("/model", {"model": "conv(20000, 1)", "input": "1x64x64"}, "163,840,000 numbers .*, at most 8,000,000"),
        ("/compare", {"model": "linear(30000)", "batch": 1}, "at most 20,000,000; take fewer examples"),
        ("/train", {"model": "linear(4) log_softmax", "action": "reset"}, "must map"),
        ("/train", {"model": "linear(9000) linear(3) log_softmax", "action": "reset"}, "at most 8,000,000"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_models_that_do_not_fit_are_refused_in_the_words_of_the_library(explorer, path, fields, expected):
    status, text = error(ask(explorer, path, {**MODEL, **fields}))
    assert status == 400
    assert re.search(expected, text), text


def test_fifty_at_once_are_answered_or_told_to_wait_and_no_step_is_lost(explorer):
    answer(explorer, "/train", {**MODEL, "action": "reset"})
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: ask(explorer, "/train", STEP), range(50)))
    good = [json.loads(text)["frame"]["step"] for status, _, text in found if status == 200]
    assert all(status in (200, 503) for status, _, _ in found)
    assert len(good) > 16
    assert sorted(good) == list(range(1, len(good) + 1))
    assert answer(explorer, "/train", STEP)["frame"]["step"] == len(good) + 1


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
        (["Content-Length: 16385"], 413, "16,384"),
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
        ("GET / HTTP/x", 400),
        ("GET / HTTP/3.0", 505),
        (f"GET /{'a' * 70000} HTTP/1.1", 414),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_there_are_four_addresses_and_two_methods(fast, start, status):
    found = raw(fast, request(fast, start=start.replace("TOKEN", fast.token)))
    assert found.startswith(f"HTTP/1.0 {status} ".encode())
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
        length = chance.choice(["-5", "0", "1e3", "99999999999", "0x10", "", "16384", str(chance.randrange(300))])
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
    os.kill(after["pid"], signal.SIGKILL)  # between two jobs
    time.sleep(0.3)
    assert json.loads(train()[2])["count"] == after["count"] + 1
    assert error(train("refuse")) == (400, "relu: no such thing")
    assert error(train("break")) == (500, "train: RuntimeError: a fault")
    assert json.loads(train()[2])["count"] == after["count"] + 2
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


def test_explore_prints_its_address_and_ends_at_ctrl_c():
    code = "from jaxnets.report.explorer import explore; explore(open_browser=False)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        url = process.stdout.readline().strip()
        host, token = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/\?token=([\w-]{20,})", url).groups()
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", "/model", json.dumps({**MODEL, "model": ""}), {"X-Token": token})
        assert connection.getresponse().status == 400  # so the worker is there too
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()


def test_the_page_in_a_browser(explorer, browser):
    tab, problems = browser.new_page(), []
    tab.set_default_timeout(60_000)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda one: one.url.startswith((explorer.url.split("?")[0], "data:")) or problems.append(one.url))
    tab.goto(explorer.url)
    compared = tab.locator("#comparison:not([aria-busy]) table").first
    compared.wait_for()

    def show(model):
        tab.fill("[name='model']", model)
        tab.get_by_role("button", name="Show").click()

    show("linear(3) tahn")
    tab.get_by_role("alert").filter(has_text="unknown word 'tahn', did you mean tanh").wait_for()
    assert tab.inner_text(".page-head .model") == MODEL["model"]

    other = {**MODEL, "model": "linear(3) tanh log_softmax", "batch": 4, "seed": 0}
    show(other["model"])
    tab.locator(".page-head .model", has_text=other["model"]).wait_for()
    compared.wait_for()
    block = answer(explorer, "/model", other)["content"]["modules"][0]["jacobians"][0]
    shown = tab.inner_text(".readout").rpartition("=")[2].replace("−", "-")
    assert float(shown) == pytest.approx(block["values"][0][0], rel=1e-5)

    for do, step in (("reset", 0), ("10", 10), ("1", 11)):
        tab.locator(f"[data-live='{do}']").click()
        tab.locator("#training output", has_text=f"step {step},").wait_for()
    tab.close()
    assert not problems
