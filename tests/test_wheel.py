"""What people install works without the checkout, and holds nothing that does not belong to it."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALONE = """
import importlib.metadata, importlib.resources, pathlib, sys
import jax.numpy as jnp, jaxnets as jn

here = pathlib.Path(sys.argv[1])
assert pathlib.Path(jn.__file__) == here / "jaxnets" / "__init__.py", jn.__file__
assert importlib.metadata.distribution("jaxnets").locate_file("") == here
assert jn.relu(jnp.array([-1.0, 2.0])).tolist() == [0.0, 2.0]
package = importlib.resources.files("jaxnets")
for file in ("py.typed", "__init__.pyi", "course/notebooks/lecture_b.py", "course/notebooks/lecture_b.ipynb"):
    assert package.joinpath(file).is_file(), file

from jaxnets.guide import page_texts
from jaxnets.report.page import page_html
from jaxnets.report.speed import benchmark_tables

assert all(text.startswith("# ") for text in page_texts().values())
page = page_html({"benchmarks": benchmark_tables()})
assert "<style>" in page and "__DATA__" not in page and "/*SCRIPT*/" not in page
print("alone")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution, made without a network by what the extra `test` installs."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def files_of_the_package():
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "jaxnets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == files_of_the_package()
    assert {"jaxnets/py.typed", "jaxnets/__init__.pyi", "jaxnets/guide/start.md", "jaxnets/report/page.html"} <= names


def test_the_source_distribution_holds_no_junk(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"jaxnets", "tests", "benchmarks", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {name for name in names if name.startswith("jaxnets/")} == files_of_the_package()
    assert not [name for name in names if "cache" in name.lower() or name.endswith(".pyc")]


def test_an_installed_wheel_works_without_the_checkout(built, tmp_path, monkeypatch):
    (wheel,) = built.glob("*.whl")
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    monkeypatch.setenv("PYTHONPATH", str(target))

    def run(*arguments):
        found = subprocess.run([sys.executable, *arguments], cwd=elsewhere, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert "Set up" in run("-m", "jaxnets", "guide", "start")
    assert run("-c", ALONE, str(target)) == "alone\n"
