"""Type checkers, editors and `help` see every public name, with its signature."""

import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jaxnets

ROOT = Path(__file__).parent.parent
NAMES = [name for name in dir(jaxnets) if name == "__version__" or not name.startswith("__")]
SIGNATURES = {  # other packages are skipped here, which makes their types `Any`
    "relu": "jaxnets.layers.layer.Layer[[x: Any], Any]",
    "linear": "jaxnets.layers.layer.Layer[[x: Any, w: Any, b: Any | None =], Any]",
    "cross_entropy": "jaxnets.layers.layer.Layer[[predictions: Any, targets: Any,",
    "jacobian": "def (function: def (*Any, **Any) -> Any, argnums: int | tuple[int, ...] =, *, has_aux: bool =",
    "models.linear": "def (features: int",
    "plots": "types.ModuleType",
    "__version__": "str",
}
CONFIG = f"""
[mypy]
mypy_path = {ROOT}
follow_imports = skip
ignore_missing_imports = true
disable_error_code = no-redef, name-defined, valid-type, syntax
[mypy-jaxnets.*]
follow_imports = silent
"""


def checked(program: str, folder: Path, cache: Path) -> list[str]:
    """What mypy says of a program, a line each, without file and place."""
    (folder / "program.py").write_text(program)
    (folder / "mypy.ini").write_text(CONFIG)
    options = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(cache), "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, str(folder / "program.py")]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not said.stderr
    return [re.sub(r"^.*program\.py:", "", line) for line in said.stdout.splitlines()]


@pytest.fixture(scope="module")
def cache(request, tmp_path_factory):
    """Where mypy keeps what it has read, between runs, too: reading the package takes it some seconds."""
    kept = getattr(request.config, "cache", None)
    return Path(kept.mkdir("mypy")) if kept else tmp_path_factory.mktemp("mypy")


def test_type_checkers_see_every_public_name_with_its_signature(tmp_path, cache):
    lines = ["import jaxnets as jn", *(f"jn.{name}" for name in NAMES)]
    asked = [f"reveal_type(jn.{name})" for name in SIGNATURES]
    notes = checked("\n".join([*lines, *asked]), tmp_path, cache)
    assert len(notes) == len(SIGNATURES), notes
    for note, signature in zip(notes, SIGNATURES.values(), strict=True):
        assert note.partition("Revealed type is ")[2].startswith(f'"{signature}'), note
    (wrong,) = checked("import jaxnets as jn\njn.relux", tmp_path, cache)
    assert "[attr-defined]" in wrong


def test_help_shows_every_public_name_with_its_signature():
    lines = {line.strip().lstrip("| ") for line in pydoc.plain(pydoc.render_doc(jaxnets)).splitlines()}
    values = {name: getattr(jaxnets, name) for name in jaxnets.__all__}
    for name, value in values.items():
        if isinstance(value, ModuleType):
            assert f"`{name}`" in jaxnets.__doc__
        elif isinstance(value, type) and issubclass(value, BaseException):
            assert any(line.startswith(f"class {name}(") for line in lines), name
        elif callable(value):
            told = f"{value.__name__}{inspect.signature(value)}"
            told = told if value.__name__ == name else f"{name} = {told}"  # another name of the same function
            assert any(line.endswith(told) for line in lines), told
        else:
            assert any(line.startswith(f"{name} = ") for line in lines), name
