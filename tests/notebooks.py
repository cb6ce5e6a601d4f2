"""Writes the notebooks of the course with their outputs: `python -m tests.notebooks [NAME …]`, by default all of them.

Jupytext reads the cells of jaxnets/course/notebooks/NAME.py, a Jupyter kernel on the CPU runs them from top to bottom, and
NAME.ipynb beside it gets the cells with what they printed and showed.  Nothing in it depends on the machine or the time: a
cell is named after its text, and pictures are made small.
"""

import argparse
import base64
import hashlib
import io
import itertools
import os
import re
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "jaxnets" / "course" / "notebooks"
HEADER = "# mypy: ignore-errors\n"  # of every .py, and no cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
MATPLOTLIBRC = "figure.dpi: 72\nsavefig.dpi: figure\n"
COLOURS = 64  # of a picture
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
INSTALL = """\
# In Colab this cell installs jaxnets; elsewhere it does nothing.
try:
    import google.colab  # noqa: F401
except ImportError:
    pass
else:
    %pip install --quiet "jaxnets[data,plot] @ git+{repository}\""""


def repository() -> str | None:
    """The address of the repository in pyproject.toml, or None if none is named there."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {}).get("Repository")


def first_cells(path: Path, address: str | None) -> list[tuple[str, str]]:
    """What is put before the cells of a .py, as kinds and texts: Colab installs from the repository's address, if any."""
    if not address:
        return []
    install = ("code", INSTALL.format(repository=address))
    if not address.startswith("https://github.com/"):
        return [install]
    place = f"{address.removeprefix('https://github.com/')}/blob/main/{path.relative_to(ROOT).with_suffix('.ipynb')}"
    return [("markdown", f"{BADGE}(https://colab.research.google.com/github/{place})"), install]


def digest(source: str) -> str:
    return hashlib.sha1(source.encode()).hexdigest()[:8]


def read(path: Path, address: str | None):
    """The cells of a .py as a notebook, each with a name that is made of its text."""
    import jupytext
    import nbformat

    notebook = jupytext.reads(path.read_text(encoding="utf-8").removeprefix(HEADER), fmt="py:percent")
    new_cell = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook.cells = [*(new_cell[kind](text) for kind, text in first_cells(path, address)), *notebook.cells]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    known: set[str] = set()
    for cell in notebook.cells:
        cell.source, cell.metadata = cell.source.strip(), nbformat.from_dict({})
        name = digest(cell.source)
        cell.id = next(text for n in itertools.count() if (text := f"{name}-{n}" if n else name) not in known)
        known.add(cell.id)
    return notebook


def run(notebook):
    """Run all cells in a kernel of their own, in an empty folder.  Raises CellExecutionError where a cell does."""
    import nbformat
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        style = Path(folder, "style")
        style.write_text(MATPLOTLIBRC)
        os.mkdir(empty := Path(folder, "empty"))
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=600,
            record_timing=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(empty)}},
        )
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "MATPLOTLIBRC": str(style), "JAX_PLATFORMS": "cpu"}
        client.execute(env={**os.environ, **quiet})
        left = sorted(path.name for path in empty.iterdir())
    if left:
        raise RuntimeError(f"the notebook leaves files behind: {', '.join(left)}")
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.clear()
            cell.outputs = tidy(cell.outputs)
    return notebook


def tidy(outputs) -> list:
    """The outputs of a cell: what was printed in pieces is in one, pictures are small, and no address of memory is shown."""
    found: list = []
    for output in outputs:
        if output.output_type == "stream" and found and found[-1].get("name") == output.name:
            found[-1].text += output.text
            continue
        output.pop("transient", None)
        if "data" in output:
            output.metadata.clear()
            data = output.data
            if "image/png" in data:
                data["image/png"] = small(data["image/png"])
            if "text/plain" in data:
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", data["text/plain"])
        found.append(output)
    return found


def small(png: str) -> str:
    """A picture of few colours, in base64."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def text(notebook) -> str:
    import nbformat

    return nbformat.writes(notebook) + "\n"


def write(name: str) -> str:
    """Write one .ipynb, and tell what was done."""
    from jaxnets.files import written_atomically

    start = time.perf_counter()
    notebook = run(read(FOLDER / f"{name}.py", repository()))
    with written_atomically(FOLDER / f"{name}.ipynb") as part:
        part.write_text(text(notebook), encoding="utf-8")
    size = (FOLDER / f"{name}.ipynb").stat().st_size
    return f"{name}.ipynb: {len(notebook.cells)} cells, {size / 1000:.0f} kB, run in {time.perf_counter() - start:.0f} s"


def main():
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    parser = argparse.ArgumentParser("python -m tests.notebooks", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=names, help=", ".join(names))
    chosen = parser.parse_args().names
    if unknown := set(chosen) - set(names):
        parser.error(f"no notebook {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    print(f"running {len(chosen)} notebooks, two at a time", flush=True)
    with ThreadPoolExecutor(2) as pool:
        for done in as_completed([pool.submit(write, name) for name in chosen]):
            print(done.result(), flush=True)


if __name__ == "__main__":
    main()
