"""Names of other libraries: every one of theirs is in the tables, every one of ours exists, and errors tell them."""

import inspect
import re
from fnmatch import fnmatch

import jax
import optax
import pytest

import jaxnets
from jaxnets.guide import page_texts
from jaxnets.learn.spec import parse
from jaxnets.names import COUNTERPARTS, ONLY_HERE, hint

from .tables import with_tables

ROWS = [row for rows in COUNTERPARTS.values() for row in rows]


def names(section):
    return [name for row in COUNTERPARTS[section] for name in row.names]


def test_the_page_has_the_tables_of_today():
    text = page_texts()["from_torch"]
    assert with_tables(text) == text, "python -m tests.guide writes them anew"


def called(expression: str) -> set[str]:
    """The names in an expression that are called, or that stand alone."""
    return set(re.findall(r"[a-z]\w*(?:\.\w+)?(?=\()", expression)) or {expression}


def test_every_name_of_ours_exists():
    for name in set().union(*(called(row.ours) for row in ROWS if row.ours)):
        found = jaxnets
        for part in name.split("."):
            found = getattr(found, part)


def test_every_layer_is_told_or_is_found_here_alone():
    told = set().union(*(called(row.ours) for row in ROWS))
    own = {name for name, layer in jaxnets.LAYERS.items() if layer.forward.__module__.startswith("jaxnets.")}
    assert own - told == ONLY_HERE


def test_no_name_is_told_twice_and_whatever_has_no_counterpart_says_why():
    for section in COUNTERPARTS:
        assert len(set(names(section))) == len(names(section)), section
    assert all(row.differs for row in ROWS if not row.ours)


def test_no_name_of_ours_is_another_thing_elsewhere():
    """A name that we have is never said to be called otherwise, but for those whose arguments differ."""
    assert not [(name, row.ours) for row in ROWS for name in row.names if name in jaxnets.LAYERS and row.name != name]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mse_loss", "'mse_loss'; jaxnets calls it squared_error"),
        ("KLDivLoss", "'KLDivLoss'; in jaxnets write kl_divergence(x, t, axis=None)"),
        ("relu_", "'relu_'; jaxnets has no counterpart: works in place"),
        ("bmm", "'bmm'; jaxnets calls it matmul"),
        ("softmax_cross_entropy_with_integer_labels", "; jaxnets calls it cross_entropy"),
        ("nonsense", "no attribute 'nonsense'$"),
    ],
)
def test_an_unknown_name_of_another_library_is_told(name, told):
    with pytest.raises(AttributeError, match=re.escape(told).replace(r"\$", "$")):
        getattr(jaxnets, name)


def test_words_of_models_and_the_table_of_layers_tell_them_too():
    with pytest.raises(jaxnets.SpecError, match="unknown word 'hardtanh'; jaxnets calls it hard_tanh; known: linear"):
        parse("linear(3) hardtanh")
    with pytest.raises(KeyError, match="no layer 'mse_loss'; jaxnets calls it squared_error"):
        jaxnets.LAYERS["mse_loss"]
    assert jaxnets.LAYERS.get("mse_loss") is None and not hint("nonsense")


def test_every_name_of_jax_nn_and_of_optax_is_told():
    theirs = {name for name in dir(jax.nn) if not name.startswith("_")}
    assert theirs <= set(names("jax_nn"))
    theirs = {name for name in dir(optax.losses) if not name.startswith("_") and callable(getattr(optax.losses, name))}
    assert theirs <= set(names("optax"))


def test_every_function_of_pytorch_is_told():
    functional = pytest.importorskip("torch.nn.functional", reason="needs PyTorch: pip install -e '.[peers]'")
    homes = ("torch", "torch.nn.functional", "torch._C._nn")
    theirs = {
        name
        for name, value in vars(functional).items()
        if not name.startswith("_") and inspect.isroutine(value) and (value.__module__ or "torch") in homes
    }
    assert len(theirs) > 100
    assert theirs - {"assert_int_or_pair"} <= set(names("pytorch"))


def test_every_module_of_pytorch_is_told_but_for_containers():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[peers]'")
    theirs = {
        name for name, value in vars(torch.nn).items() if inspect.isclass(value) and issubclass(value, torch.nn.Module)
    }
    containers = ("Module*", "Sequential", "Parameter*", "Container", "DataParallel", "*Base", "Buffer", "Unflatten")
    unknown = {name for name in theirs - set(names("pytorch")) if not any(fnmatch(name, kind) for kind in containers)}
    assert not {name for name in unknown if not name.startswith("Lazy")}
