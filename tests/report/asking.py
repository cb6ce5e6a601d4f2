"""How tests ask the explorer: requests as the page sends them, and what comes back."""

import http.client
import json

MODEL = {"model": "linear(3) log_softmax", "input": "2", "batch": 2, "dtype": "float64", "seed": 1}
STEP = {**MODEL, "action": "step"}


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
