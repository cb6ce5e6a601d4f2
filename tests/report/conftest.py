"""What the page shows in its tests, and a tab that shows it."""

import pytest

import jaxnets as jn
from jaxnets import compare
from jaxnets.learn.presets import make_problem
from jaxnets.report.content import describe
from jaxnets.report.engine import engine_data
from jaxnets.report.page import page_html
from jaxnets.report.saturation import saturation
from jaxnets.report.training import Training

from .serving import LIVE, SETTINGS, Server
from .tabs import WIDE

TABLES = [
    {"measured": "Measured on cpu (cpu, 2 cores), jax 0.10.2", "columns": ["case", "ratio"], "rows": [["`mlp`", "0.52"]]}
]


@pytest.fixture(scope="session")
def asked():
    return make_problem("linear(12) relu residual(tanh) linear(3) log_softmax", (2,), dtype="float64")


@pytest.fixture(scope="session")
def compared(asked):
    return compare(jn.linear, asked.x, asked.params[0]["w"], asked.params[0]["b"], title="linear")


@pytest.fixture(scope="session")
def data(asked, compared):
    parts = {"saturation": saturation(), "replay": Training(asked).replay(20, 5), "benchmarks": TABLES}
    return {**describe(asked), "comparisons": [compared.to_json()], **parts}


@pytest.fixture(scope="session")
def computing(asked, data):
    """What a page shows that computes by itself."""
    return {**data, "engine": engine_data(asked, data["diagram"])}


@pytest.fixture
def show(browser, data, tmp_path):
    """Opens a page, by default on all of `data`; at the end nothing may have been asked for, and no error reported."""
    opened, problems = [], []

    def show(found=data, size=WIDE, **options):
        window = {"width": size[0], "height": size[1]}
        tab = browser.new_page(**{"viewport": window, "reduced_motion": "reduce", **options})
        opened.append(tab)
        tab.set_default_timeout(5000)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda message: message.type == "error" and problems.append(message.text))
        tab.on(
            "request", lambda request: request.url.startswith(("file://", "data:", "blob:")) or problems.append(request.url)
        )
        file = tmp_path / "page.html"
        file.write_text(page_html(found), encoding="utf-8")
        tab.goto(file.as_uri())
        return tab

    yield show
    for tab in opened:
        tab.close()
    assert not problems


@pytest.fixture
def live(browser, data):
    """A page with a server behind it."""
    replay = {**data["replay"], "frames": data["replay"]["frames"][:1]}
    server = Server({**data, "live": {"token": "secret", **SETTINGS}, "comparisons": None}, replay)
    tab = browser.new_page()
    tab.set_default_timeout(5000)
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.route("**/*", server)
    tab.goto(LIVE)
    yield tab, server
    tab.close()
    assert not errors
