"""Commands about Jacobians: `layers`, `shapes`, `compare`."""

import dataclasses
import functools

import tyro

from .common import ModelOptions, UsageError, print_json, print_result, print_tables


@dataclasses.dataclass
class Layers:
    """Print every layer and loss with the formulae of its Jacobians."""

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        from ..catalogue import catalogue

        return print_result(catalogue(), self.json)


@dataclasses.dataclass
class Shapes(ModelOptions):
    """Print the layers of a model with the dimensions, formulae and structure of every Jacobian, from shapes alone."""

    model: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder) or a description: "linear(60) relu linear(10) log_softmax"."""
    loss: bool = False
    """Include the average loss."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        if not self.model:
            raise UsageError("shapes: which MODEL?  A preset (mynet, spiral, digits, autoencoder) or a description")
        self.setup()
        from ..show.tabulate import tabulate

        found = self.problem(self.model, abstract=True)
        return print_result(tabulate(found.loss if self.loss else found.network, found.params, found.x), self.json)


@dataclasses.dataclass
class Compare(ModelOptions):
    """Compare every hand-written Jacobian of a model or layer with autodiff and finite differences.

    The exit status is 1 if one of them does not agree.
    """

    what: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder), a description, a layer by name, or "all"."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        if not self.what:
            raise UsageError("compare: which MODEL or LAYER?  A preset, a description, the name of a layer, or all")
        self.setup()
        from ..catalogue import LAYERS
        from ..learn.presets import presets

        names = [*LAYERS, *presets()] if self.what == "all" else [self.what]
        ok, collected = True, []
        for name in names:
            for report in self.comparisons(name):
                ok = ok and report.ok
                if self.json:
                    collected.append(report.to_json())
                else:
                    print_tables(report, "")
        if self.json:
            print_json({"ok": ok, "comparisons": collected})
        elif len(names) > 1:
            print("all Jacobians agree" if ok else "some Jacobians differ")
        return 0 if ok else 1

    def comparisons(self, name: str):
        import jax

        from ..catalogue import LAYERS, example_arguments
        from ..show.compare import compare

        if name in LAYERS:
            if self.input is not None or self.batch is not None:
                raise UsageError(
                    f"compare {name}: a layer by name has its own arguments; --input and --batch are for models"
                )
            layer = LAYERS[name]
            arguments, config = example_arguments(layer, jax.random.key(self.seed), self.dtype)
            yield compare(functools.partial(layer, **config), *arguments, title=f"layer {name}")
            return
        found = self.problem(name)
        yield compare(found.network, found.params, found.x, title=f"{name}: the network on {found.source}")
        yield compare(found.loss, found.params, found.x, title=f"{name}: its average loss")
