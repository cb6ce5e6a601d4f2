"""The reference of all public names, made from their signatures and docstrings, as Markdown and as a page of HTML."""

import dataclasses
import html
import importlib
import inspect
import re
import types

import jaxnets

DATA = {"LAYERS": "Every layer and loss by its name: a dict to which `layer` adds your own."}
MODULE_PREFIX = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")  # such as the beginning of collections.abc.Callable
WIDTH = 90  # letters of a signature on one line
TITLE = "jaxnets: API reference"


@dataclasses.dataclass(frozen=True)
class NameEntry:
    """A public name, its signature and its docstring."""

    name: str
    signature: str
    docstring: str


@dataclasses.dataclass(frozen=True)
class Section:
    """The public names that one module defines."""

    title: str
    docstring: str
    entries: tuple[NameEntry, ...]

    @property
    def anchor(self) -> str:
        return f"module-{self.title}"


def sections() -> list[Section]:
    """Every public name by the module that defines it: wing by wing from the lowest floor up, and files alphabetically."""
    names: dict[types.ModuleType, list[NameEntry]] = {}
    for name in jaxnets._load():
        value = getattr(jaxnets, name)
        module = value if isinstance(value, types.ModuleType) else importlib.import_module(_home(value))
        public = _defined(module, name) if value is module else {name: value}
        names.setdefault(module, []).extend(entry for pair in public.items() for entry in _entries(*pair))
    titles = {module.__name__.removeprefix("jaxnets."): module for module in names}
    in_order = sorted(titles, key=lambda title: (jaxnets.WINGS.index(title.split(".")[0]), title))
    return [Section(title, inspect.getdoc(titles[title]) or "", tuple(names[titles[title]])) for title in in_order]


def _home(value) -> str:
    """The name of the module that defines a public name."""
    return jaxnets.Layer.__module__ if value is jaxnets.LAYERS else value.__module__


def _defined(module, prefix: str) -> dict[str, object]:
    """The functions and classes in a module's `__all__` or, where it has none, the public ones of its own files."""
    if hasattr(module, "__all__"):
        return {f"{prefix}.{name}": value for name in module.__all__ if callable(value := getattr(module, name))}
    own = {name: value for name, value in vars(module).items() if not name.startswith("_") and callable(value)}
    home = f"{module.__name__}."
    return {f"{prefix}.{name}": v for name, v in own.items() if f"{getattr(v, '__module__', None)}.".startswith(home)}


def _entries(name: str, value):
    """The entry of a name and, for a class, those of its methods and properties."""
    yield _entry(name, value)
    for own, member in vars(value).items() if isinstance(value, type) else ():
        if not own.startswith("_") and isinstance(member, (types.FunctionType, property, classmethod)):
            yield _entry(f"{name}.{own}", getattr(value, own))


def _entry(name: str, value) -> NameEntry:
    if name in DATA:
        return NameEntry(name, name, DATA[name])
    if isinstance(value, property):
        return NameEntry(name, name, inspect.getdoc(value) or "")
    if isinstance(value, type) and issubclass(value, BaseException):
        signature = f"({value.__bases__[0].__name__})"
    else:
        signature = MODULE_PREFIX.sub("", str(inspect.signature(value))).removesuffix(" -> None")
        signature = signature.replace("(self, ", "(").replace("(self)", "()")
    return NameEntry(name, _in_lines(name + signature), inspect.getdoc(value) or "")


def _in_lines(signature: str) -> str:
    """A signature on one line, or with a line for each argument if it is too long."""
    if len(signature) <= WIDTH:
        return signature
    end = signature.rindex(")")
    depth, arguments = 0, ""
    for letter in signature[:end]:
        depth += (letter in "([{") - (letter in ")]}")
        arguments += {"(": "(\n    ", ",": ",\n   "}.get(letter, letter) if depth == 1 else letter
    return f"{arguments},\n{signature[end:]}"


def _blocks(docstring: str):
    """The paragraphs of a docstring, each with its kind: "text", "formula" or "example"."""
    for block in filter(None, re.split(r"\n\s*\n", docstring)):
        if block.lstrip().startswith(">>>"):
            yield "example", inspect.cleandoc(block)
        else:
            formula = re.match(r"∂\S* = ", block) or " " * 4 in block
            yield "formula" if formula else "text", block


# As Markdown


def reference() -> str:
    """The signature and the docstring of every public name, as Markdown."""
    found = sections()
    lines = [f"# {TITLE}", "", *(f"- [{s.title}](#{s.anchor}): {_listed(s)}" for s in found), ""]
    for section in found:
        lines += section_markdown(section)
    return "\n".join(lines)


def section_markdown(section: Section) -> list[str]:
    """The lines of a section, whose headings have anchors."""
    lines = [f'## <a id="{section.anchor}"></a>{section.title}', "", *_markdown(section.docstring)]
    for entry in section.entries:
        heading = f'### <a id="{entry.name}"></a>`{entry.name}`'
        lines += [heading, "", "```python", entry.signature, "```", "", *_markdown(entry.docstring)]
    return lines


def _listed(section: Section) -> str:
    return ", ".join(f"[{entry.name}](#{entry.name})" for entry in section.entries)


def _markdown(docstring: str):
    for kind, block in _blocks(docstring):
        if kind == "text":
            parts = re.split(r"(`[^`]*`)", block)  # code stays as it is, and marks in other text are escaped
            yield "".join(part if i % 2 else re.sub(r"([\\*_<>\[\]|#~])", r"\\\1", part) for i, part in enumerate(parts))
        else:
            yield f"```{'python' if kind == 'example' else 'text'}\n{block}\n```"
        yield ""


# As a page of HTML

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --link: light-dark(#0550ae, #79b8ff); }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--link); }
nav { border: 1px solid var(--line); border-radius: .5rem; padding: .25rem 1rem; font-size: .9rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; }
h3 { margin: 2rem 0 .5rem; font-size: 1rem; }
code, pre { font: .9rem/1.4 ui-monospace, monospace; }
pre { background: var(--soft); border-radius: .4rem; margin: .5rem 0; padding: .5rem .75rem; white-space: pre-wrap; }
p { margin: .5rem 0; }
""".strip()


def reference_html() -> str:
    """The reference as one page of HTML that needs no other file."""
    found = sections()
    lines = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">']
    lines += ['<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{TITLE}</title>"]
    lines += [f"<style>{STYLE}</style>", "</head>", "<body>", f"<h1>{TITLE}</h1>", '<nav aria-label="Contents">', "<ul>"]
    for section in found:
        links = ", ".join(f'<a href="#{entry.name}">{html.escape(entry.name)}</a>' for entry in section.entries)
        lines.append(f'<li><a href="#{section.anchor}">{html.escape(section.title)}</a>: {links}</li>')
    lines += ["</ul>", "</nav>", "<main>"]
    for section in found:
        lines += [f'<h2 id="{section.anchor}">{html.escape(section.title)}</h2>', *_html(section.docstring)]
        for entry in section.entries:
            lines += [f'<h3 id="{entry.name}">{html.escape(entry.name)}</h3>']
            lines += [f"<pre><code>{html.escape(entry.signature)}</code></pre>", *_html(entry.docstring)]
    return "\n".join([*lines, "</main>", "</body>", "</html>", ""])


def _html(docstring: str):
    for kind, block in _blocks(docstring):
        text = html.escape(block)
        if kind == "text":
            marked = re.sub(r"`([^`]*)`", r"<code>\1</code>", text)
            yield f"<p>{marked}</p>"
        else:
            yield f"<pre>{text}</pre>"
