"""The site of the guide, the course and the reference: what MkDocs, set up in `guide/mkdocs.yml`, calls while it makes it.

On the site the README is the first page, a link to a section of a notebook leads there, and a page lists the notebooks.
The reference is made of the live layers, as `jaxnets reference` is: some of them, as `conv`, are made by functions, which
tools that only read source code do not see.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from markdown.extensions.toc import slugify
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, InclusionLevel

from jaxnets.course.examples import NOTEBOOKS, examples, notebook, words_of
from jaxnets.languages import said
from jaxnets.reference import section_markdown, sections

ROOT = Path(__file__).parent.parent
PICTURES = {"guide/scaling.png": ROOT / "benchmarks" / "results" / "scaling.png"}
REFERENCE = {  # the pages of the wings
    "layers": "Layers",
    "losses": "Losses",
    "autodiff": "Jacobians of functions",
    "algebra": "The algebra of Jacobians",
    "curvature": "Curvature",
    "learn": "Learning",
    "show": "Showing and checking",
    "errors": "Errors",
}
LINKS = {  # how they begin and end in the repository, and on the site
    r"\]\(jaxnets/": "](",  # of the README
    r"\]\(((?:\.\./)?course/notebooks)\)": r"](\1/index.md)",
    r"\]\(\.\./\.\./benchmarks/results/": "](",
}
CELL = re.compile(r"\[(\w+): ([^\]]+)\]\(\.\./course/notebooks/\1\.ipynb\)")  # a link to a section of a notebook
ANCHOR = re.compile(r'<a id="(?P<name>[^"]+)"></a>(?P<text>.*)')
work = TemporaryDirectory(prefix="jaxnets-site-")  # notebooks in French, until the site is there


@event_priority(100)  # before notebooks become pages
def on_files(files, config):
    """Add the pages that are not files in the folder of the package."""

    def add(uri, **source):
        files.append(File.generated(config, uri, inclusion=InclusionLevel.INCLUDED, **source))

    add("index.md", content="---\nhide: [navigation]\n---\n" + (ROOT / "README.md").read_text(encoding="utf-8"))
    for uri, path in PICTURES.items():
        add(uri, abs_src_path=str(path))
    for language, folder in (("en", "course/notebooks"), ("fr", "course/notebooks/fr")):
        add(f"{folder}/index.md", content=list_of_notebooks(language))
    for wing, content in reference_pages().items():
        add(f"reference/{wing}.md", content=content)
    for path in NOTEBOOKS.glob("*.ipynb"):
        uri = f"course/notebooks/fr/{path.name}"
        translated = Path(work.name, uri)
        translated.parent.mkdir(parents=True, exist_ok=True)
        translated.write_text(notebook(path, "fr"), encoding="utf-8")
        files.append(File(uri, work.name, config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn the links of a page to where they lead on the site."""
    return linked(markdown, "fr" if page.file.src_uri.endswith(".fr.md") else "en")


def linked(markdown: str, language: str = "en") -> str:
    """The text of a page with its links as they are on the site, to notebooks in its language."""
    folder = "../course/notebooks" if language == "en" else f"../course/notebooks/{language}"

    def to_section(link: re.Match) -> str:
        name, title = link.groups()
        return f"[{name}: {title}]({folder}/{name}.ipynb#{slugify(headings(name, language)[title], '-')})"

    markdown = CELL.sub(to_section, markdown)
    for link, there in LINKS.items():
        markdown = re.sub(link, there, markdown)
    return markdown.replace("](../course/notebooks/index.md)", f"]({folder}/index.md)")


def headings(name: str, language: str) -> dict[str, str]:
    """The headings of a notebook in a language by the English ones."""
    cells = zip(words_of(name), words_of(name, language), strict=True)
    pairs = [pair for cell in cells for pair in zip(*(re.findall(r"^## (.*)$", text, re.M) for text in cell), strict=True)]
    return dict(pairs)


def list_of_notebooks(language: str) -> str:
    """The page that lists the notebooks."""
    title = said("the notebooks of the course", language)
    lines = [
        f"# {title[0].upper()}{title[1:]}",
        "",
        f"| {said('title', language)} | {said('about', language)} |",
        "|---|---|",
    ]
    lines += [f"| [{example.title}]({example.name}.ipynb) | {example.about} |" for example in examples(language).examples]
    return "\n".join([*lines, "", said("`jaxnets examples --copy FOLDER` copies them as .ipynb and .py.", language), ""])


def reference_pages() -> dict[str, str]:
    """A page for each wing, with the signatures and docstrings of its public names."""
    pages: dict[str, list[str]] = {}
    for section in sections():
        wing = section.title.split(".")[0]
        lines = pages.setdefault(wing, [f"# {REFERENCE[wing]}", ""])
        lines += (ANCHOR.sub(r"\g<text> { #\g<name> }", line) for line in section_markdown(section))
    return {wing: "\n".join(lines) for wing, lines in pages.items()}
