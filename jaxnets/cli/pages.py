"""Commands that make pages to read: `report`, `explore`, `guide`, `reference`, `examples`."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro

from ..languages import said
from .common import (
    Language,
    ModelOptions,
    UsageError,
    check_file,
    chosen_language,
    not_named,
    print_json,
    print_result,
    print_tables,
    shape_of,
    usage_errors,
    working,
    write,
)


@dataclasses.dataclass
class Report(ModelOptions):
    """Write a self-contained page on a model: its graph, every module's formula, code, Jacobian and comparison, a training.

    Up to 2,000 weights are trained in the browser, without a server.

    Example: jaxnets report digits -o report.html
    """

    model: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder) or a description: "linear(60) relu linear(10) log_softmax"."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """File to write."""
    lang: Language | None = None
    """Language of the page; it can be changed there.  Default: what LC_ALL, LC_MESSAGES or LANG asks for, or English."""

    def run(self) -> int:
        if not self.model:
            raise not_named(self, "MODEL", "A preset (mynet, spiral, digits, autoencoder) or a description")
        check_file(self.output)
        with working(f"report {self.model}"):
            self.setup()
            from ..report.report import report_html

            html = report_html(self.problem(self.model), language=chosen_language(self.lang))
        return write(self.output, html)


@dataclasses.dataclass
class Explore:
    """Serve the page of `report` with live JAX behind it: other models, sizes and seeds, and training step by step.

    Example: jaxnets explore spiral
    """

    model: tyro.conf.Positional[str] = "spiral"
    """The model to begin with: a preset or a description."""
    input: str | None = None
    """Shape of one example of a described model, such as 3x10x20.  Default: 8."""
    port: int = 0
    """Port on 127.0.0.1.  Default: a free one."""
    browser: bool = True
    """Open the page in a browser."""
    link: str | None = None
    """A link that the page copied, also from an explorer that has ended: the new one shows the same."""
    lang: Language | None = None
    """Language of the page; it can be changed there.  Default: what LC_ALL, LC_MESSAGES or LANG asks for, or English."""

    def run(self) -> int:
        if not 0 <= self.port < 2**16:
            raise UsageError(f"--port must be 0 to 65535, got {self.port}")
        if self.link is not None and not re.match(r"https?://\S+\?\S+$", self.link):
            raise UsageError(f"--link must be an address that the page copied, got {self.link!r}")
        with usage_errors():
            with working(f"explore {self.model}"):
                from ..learn.presets import make_problem

                # A bad model is refused here and not in the browser.
                make_problem(self.model, shape_of(self.input), abstract=True)
            from ..learn.progress import display
            from ..report.explorer import explore

            with display():
                explore(self.port, self.model, self.browser, self.input or "", chosen_language(self.lang), self.link or "")
        return 0


@dataclasses.dataclass
class Guide:
    """Print a page of the guide.

    Example: jaxnets guide first_minutes
    """

    page: tyro.conf.Positional[str] = ""
    """The name of a page.  Default: print the names of all pages."""
    lang: Language | None = None
    """Language of the page, if it is translated.  Default: what LC_ALL, LC_MESSAGES or LANG asks for, or English."""

    def run(self) -> int:
        from rich.markdown import Markdown

        from ..guide import page_texts

        language = chosen_language(self.lang)
        known = page_texts(language)
        if not self.page:
            print_tables(said("pages: {names}", language, names=", ".join(known)))
        elif self.page not in known:
            raise UsageError(f"guide: no page '{self.page}'; pages: {', '.join(known)}")
        else:
            print_tables(Markdown(known[self.page]))
        return 0


@dataclasses.dataclass
class Reference:
    """Print every public name with its signature and documentation.

    Example: jaxnets reference -o reference.html
    """

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """HTML file to write.  Default: print text."""

    def run(self) -> int:
        if self.output is not None:
            check_file(self.output)
        with working("reference"):
            from ..reference import reference, reference_html

            text = reference() if self.output is None else reference_html()
        if self.output is not None:
            return write(self.output, text)
        print(text)
        return 0


@dataclasses.dataclass
class Examples:
    """List the notebooks of the course, or copy them to a folder to work in.

    Example: jaxnets examples --copy mine
    """

    copy: str | None = None
    """Folder to copy all notebooks to, as .ipynb with outputs and as .py.  Nothing in it is overwritten."""
    lang: Language | None = None
    """Language of the notebooks' words.  Default: what LC_ALL, LC_MESSAGES or LANG asks for, or English."""
    json: bool = False
    """Print JSON instead of a table, or instead of one path per line."""

    def run(self) -> int:
        from ..course.examples import copy_examples, examples

        language = chosen_language(self.lang)
        if self.copy is None:
            return print_result(examples(language), self.json)
        if not self.copy or Path(self.copy).exists() and not Path(self.copy).is_dir():
            raise UsageError(f"--copy must name a folder to copy to, such as mine, got {self.copy!r}")
        with usage_errors():
            paths = [str(path) for path in copy_examples(self.copy, language)]
        if self.json:
            print_json(paths)
        else:
            print("\n".join(paths))
        return 0
