"""A server that answers for the page in live mode, with nothing behind it."""

import json

from jaxnets.report.page import page_html
from jaxnets.show.formats import replace_nonfinite

SETTINGS = {"model": "linear(3)", "input": "2", "batch": 4, "dtype": "float64", "seed": 0}
LIVE = "http://127.0.0.1:9/"  # answered by the tests, no server listens there


class Server:
    """Answers for the page in live mode; keeps what it was asked."""

    def __init__(self, data, replay):
        self.data, self.replay, self.asked, self.refusal, self.step = data, replay, [], None, 0
        self.waiting = None  # a list of requests that are not answered yet

    def __call__(self, route):
        request = route.request
        if request.method == "GET":
            return route.fulfill(body=page_html(self.data), content_type="text/html; charset=utf-8")
        path, body = request.url.removeprefix(LIVE), request.post_data_json
        assert request.headers["x-token"] == "secret" and request.headers["content-type"] == "application/json"
        self.asked.append((path, body))
        if self.waiting is not None:
            return self.waiting.append(route)
        if self.refusal == "silence":
            return route.abort()
        if self.refusal:
            return route.fulfill(status=400, body=json.dumps({"error": self.refusal}))
        self.step = body.get("steps", 0) + (self.step if body.get("action") == "step" else 0)
        frame = {**self.replay["frames"][0], "step": self.step}
        answers = {
            "model": {"content": {**self.data, "title": "another"}},
            "compare": {"comparisons": self.data["comparisons"]},
            "train": {"frame": frame} if body.get("action") == "step" else {"replay": self.begun(frame)},
        }
        return route.fulfill(body=json.dumps(replace_nonfinite(answers[path], str)))

    def begun(self, frame):
        """The replay of a training that begins, up to a frame."""
        return {**self.replay, "frames": [*self.replay["frames"], *([frame] if frame["step"] else [])]}
