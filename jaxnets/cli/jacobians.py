"""Commands about Jacobians: `layers`, `shapes`, `compare`."""

import dataclasses

import tyro

from .common import ModelOptions, UsageError, not_named, print_json, print_result, print_tables, working


@dataclasses.dataclass
class Layers:
    """Print every layer and loss with the formulae of its Jacobians.

    Example: jaxnets layers
    """

    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        with working("layers"):
            from ..catalogue import catalogue

            found = catalogue()
        return print_result(found, self.json)


@dataclasses.dataclass
class Shapes(ModelOptions):
    """Print the layers of a model with the dimensions, formulae and structure of every Jacobian, from shapes alone.

    Example: jaxnets shapes mynet
    """

    model: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder) or a description: "linear(60) relu linear(10) log_softmax"."""
    loss: bool = False
    """Include the average loss."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        if not self.model:
            raise not_named(self, "MODEL", "A preset (mynet, spiral, digits, autoencoder) or a description")
        with working(f"shapes {self.model}"):
            self.setup()
            from ..show.tabulate import tabulate

            problem = self.problem(self.model, abstract=True)
            found = tabulate(problem.loss if self.loss else problem.network, problem.params, problem.x)
        return print_result(found, self.json)


@dataclasses.dataclass
class Compare(ModelOptions):
    """Compare every hand-written Jacobian of a model or layer with autodiff and finite differences.

    The exit status is 1 if one of them does not agree.

    Example: jaxnets compare softmax
    """

    what: tyro.conf.Positional[str] = ""
    """A preset (mynet, spiral, digits, autoencoder), a description, a layer by name, or "all"."""
    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> int:
        if not self.what:
            raise not_named(self, "MODEL or LAYER", "A preset, a description, the name of a layer, or all")
        reports = []
        with working(f"compare {self.what}") as told:
            self.setup()
            from ..learn.progress import paused
            from ..show.compare import comparing

            for title, function, arguments in self.functions(told):
                for report in comparing(function, *arguments, title=title):
                    told.say(told.text, report)
                told.say(told.text)
                reports.append(report)
                if not self.json:
                    with paused():
                        print_tables(report, "")
        ok = all(report.ok for report in reports)
        if self.json:
            print_json({"ok": ok, "comparisons": [report.to_json() for report in reports]})
        elif self.what == "all":
            print("all Jacobians agree" if ok else "some Jacobians differ")
        return 0 if ok else 1

    def functions(self, told):
        """All functions that are compared, each with its title and its arguments."""
        from ..catalogue import LAYERS
        from ..learn.presets import presets

        if self.what != "all":
            yield from self.functions_of(self.what)
            return
        models = presets()
        total = len(LAYERS) + 2 * len(models)
        told.expect(total, "function", f"{total} functions: {len(LAYERS)} layers, {len(models)} models, their losses")
        for name in (*LAYERS, *models):
            for found in self.functions_of(name):
                told.next_part(found[0])
                yield found

    def functions_of(self, name: str):
        """A layer by name; or a model and its loss."""
        import jax

        from ..catalogue import LAYERS, example_arguments

        if name in LAYERS:
            if self.input is not None or self.batch is not None:
                raise UsageError(
                    f"compare {name}: a layer by name has its own arguments; --input and --batch are for models"
                )
            layer = LAYERS[name]
            arguments, config = example_arguments(layer, jax.random.key(self.seed), self.dtype)
            yield f"layer {name}", layer.of_arrays(config), arguments
            return
        found = self.problem(name)
        yield f"{name}: the network on {found.source}", found.network, (found.params, found.x)
        yield f"{name}: its average loss", found.loss, (found.params, found.x)
