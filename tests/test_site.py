"""The site: its navigation has every page and notebook, its links lead to pages of it, and it is built without a warning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets

PACKAGE = Path(jaxnets.__file__).parent
SETTINGS = PACKAGE / "guide" / "mkdocs.yml"


def test_every_page_and_notebook_is_in_the_navigation():
    navigation = re.findall(r"^ +- (?:.+: )?(\S+\.(?:md|ipynb))$", SETTINGS.read_text(), re.M)
    guide = [f"guide/{path.name}" for path in (PACKAGE / "guide").glob("*.md")]
    names = ["index.md", *(path.name for path in (PACKAGE / "course" / "notebooks").glob("*.ipynb"))]
    notebooks = [f"course/notebooks/{folder}{name}" for folder in ("", "fr/") for name in names]
    reference = [f"reference/{wing}.md" for wing in jaxnets.WINGS]
    assert sorted(navigation) == sorted(["index.md", *guide, *notebooks, *reference])


@pytest.mark.parametrize(
    "language, there", [("en", "lecture_a.ipynb#without-a-gradient"), ("fr", "fr/lecture_a.ipynb#sans-gradient")]
)
def test_links_lead_to_the_section_of_a_notebook(language, there):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    from jaxnets.site import linked

    page = (
        "[lecture_a: Without a gradient](../course/notebooks/lecture_a.ipynb), [all](../course/notebooks), [start](start.md)"
    )
    folder = f"../course/notebooks/{'fr/' if language == 'fr' else ''}"
    assert linked(page, language) == (
        f"[lecture_a: Without a gradient](../course/notebooks/{there}), [all]({folder}index.md), [start](start.md)"
    )


@pytest.mark.sweep
def test_the_site_is_built_without_a_warning(tmp_path):
    """Strict: a link that leads nowhere, also within a page, or a page that is not in the navigation is an error."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(SETTINGS), "--site-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    layers = (tmp_path / "reference" / "layers" / "index.html").read_text()
    assert 'id="conv2d"' in layers and "∂y[b,o,p]/∂x[b,i,u] = w[o,i,u−p]" in layers
    assert 'id="modeles-parametres"' in (tmp_path / "course/notebooks/fr/lecture_a/index.html").read_text()
    for page in tmp_path.rglob("*.html"):  # no request to anywhere
        assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?:', page.read_text()), page
