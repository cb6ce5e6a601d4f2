"""Devices that share the parameters of a training, and checkpoints to which every process writes its part."""

import hashlib
import json
import shutil
import signal

import jax
import numpy as np
import optax
import pytest

import jaxnets as jn
from jaxnets.learn.checkpoint import CONFIG, SUMS, checkpoints, load, read_config
from jaxnets.learn.data import spiral
from jaxnets.learn.models import linear, plain, serial

from . import processes
from .processes import finish, free_port, start
from .runs import checksums

EIGHT = """
P = jax.sharding.PartitionSpec
model = serial(linear(16), plain("tanh"), dropout(0.2), linear(3), plain("log_softmax"))
programs, step = [], descent.Descent._run_until

def spy(self, state, *arguments):
    if not programs:
        leaves = [(leaf.addressable_shards[0].data.nbytes, leaf.nbytes) for leaf in jax.tree.leaves(state)]
        programs.append((self.run_loop.lower(state, *arguments).compile().as_text(), leaves))
    return step(self, state, *arguments)

def on(count, **changes):
    mesh = jax.make_mesh((count,), ("batch",), devices=jax.devices()[:count])
    return run(model=model, mesh=mesh, fsdp=True, **changes)

def restored():
    return jn.restore(folder)[1]

alone = run(model=model)
descent.Descent._run_until = spy
eight = on(8)
descent.Descent._run_until = step
same(eight, alone)
text, bytes_of_leaves = programs[0]
held, all_of_them = map(sum, zip(*bytes_of_leaves))
assert held < all_of_them / 6 and "all-gather" in text, (held, all_of_them)
specs = [leaf.sharding.spec for leaf in jax.tree.leaves(eight.params)]
assert specs == [P("batch"), P("batch"), P(), P(None, "batch")], specs

first = on(8, epochs=1, checkpoint=folder)
same_bits(restored(), first.params)
same_bits(on(2, epochs=1, checkpoint=folder, resume=True).params, first.params)
second = on(2, epochs=2, checkpoint=folder, resume=True)
same_bits(run(model=model, epochs=2, checkpoint=folder, resume=True).params, second.params)
same(run(model=model, checkpoint=folder, resume=True), alone)
try:
    run(fsdp=True, checkpoint=folder / "none")
except ValueError as error:
    print(error)
assert not (folder / "none").exists()
print(json.dumps(said(run())))
"""

FOUR = """
meet(4)
assert (jax.process_count(), len(jax.devices()), len(jax.local_devices())) == (4, 4, 1)
model = serial(linear(8), plain("tanh"), linear(3), plain("log_softmax"))
mesh = jax.make_mesh((2, 2), ("a", "b"))
found = run(model=model, mesh=mesh, fsdp=True, epochs=1, validation=None, patience=None, checkpoint=folder)
print(json.dumps([whole(leaf).tolist() for leaf in jax.tree.leaves(found.params)]))
"""

TWO = """
import os, signal
meet(2, heartbeat_timeout_seconds=5)
model = serial(linear(8), plain("tanh"), linear(3), plain("log_softmax"))
mesh = jax.make_mesh((2,), ("batch",))
which, event, calls = sys.argv[5:8]
left = int(calls)

def fatal(name, arguments):
    global left
    if name == event and "aside" in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

if which == sys.argv[3]:
    sys.addaudithook(fatal)
options = {"model": model, "epochs": 1, "validation": None, "patience": None, "mesh": mesh, "fsdp": True, "save_every": 2}
found = run(checkpoint=folder / "killed", resume=True, **options)
again = run(checkpoint=folder / "other", **options)
assert said(found)[1] == said(again)[1]
print(json.dumps(said(found)[1]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return processes.environment(tmp_path_factory.mktemp("compiled"))


def test_devices_share_parameters_and_any_number_of_them_goes_on(tmp_path, environment):
    found = finish(start(EIGHT, 8, tmp_path, environment=environment))
    assert found[0] == "fit: fsdp needs mesh, the devices that share the parameters"


def pieces(config):
    return [piece for found in config["files"].values() for piece in found]


def moved(config):
    piece = next(piece for piece in pieces(config) if piece[1] and piece[1][0] > 0)
    piece[1][0] -= 1


def changed(name):
    def change(config):
        next(piece for piece in pieces(config) if name in piece[0])[0] = "other"

    return change


CHANGES = {
    "no longer all": lambda config: config["files"].popitem(),
    "one twice": lambda config: pieces(config) and config["files"]["arrays-1-of-4.safetensors"].append(pieces(config)[-1]),
    "overlapping": moved,
    "longer": lambda config: next(piece for piece in pieces(config) if piece[2])[2].__setitem__(0, 99),
    "of another array": changed("w"),
    "no list": lambda config: config.update(files=dict.fromkeys(config["files"], 1)),
    "no numbers": lambda config: config.update(files={name: [["a", ["0"], [1]]] for name in config["files"]}),
    "elsewhere": lambda config: config["files"].update({"../arrays-1-of-4.safetensors": []}),
    "empty": lambda config: config.update(files={}),
    "a word": lambda config: config.update(files="arrays"),
}


def forged(path, change):
    """Another description, with the right checksums."""
    config = json.loads((path / CONFIG).read_text())
    change(config)
    (path / CONFIG).write_text(json.dumps(config))
    lines = (path / SUMS).read_text().splitlines()
    own = f"{hashlib.sha256((path / CONFIG).read_bytes()).hexdigest()}  {CONFIG}"
    (path / SUMS).write_text("".join(line + "\n" for line in [*lines[:-1], own]))


def test_four_processes_are_one_and_each_writes_its_part(tmp_path, environment):
    folder, port = tmp_path / "four", free_port()
    running = [start(FOUR, 1, folder, number, port, environment=environment) for number in range(4)]
    told = [json.loads(finish(process)[-1]) for process in running]
    model = serial(linear(8), plain("tanh"), linear(3), plain("log_softmax"))
    alone = jn.fit(model, jn.nll, spiral(22), optax.adam(0.05), epochs=1, batch_size=16)
    for params in told:
        assert params == told[0]
        for a, b in zip(params, jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)

    (path,) = checkpoints(folder)
    names = [f"arrays-{i}-of-4.safetensors" for i in (1, 2, 3, 4)]
    assert sorted(file.name for file in path.iterdir()) == sorted([*names, CONFIG, SUMS])
    contents = {name: (path / name).read_bytes() for name in [*names, CONFIG]}
    assert (path / SUMS).read_bytes() == checksums(contents)
    sizes = [len(contents[name]) for name in names]
    assert max(sizes) < sum(sizes) / 2
    params = jn.restore(folder)[1]
    assert [leaf.tolist() for leaf in jax.tree.leaves(params)] == told[0]

    like = {array: np.zeros(shape, dtype) for array, (dtype, shape) in read_config(path)["arrays"].items()}
    for name, change in CHANGES.items():
        other = shutil.copytree(path, tmp_path / name / path.name)
        forged(other, change)
        with pytest.raises(
            jn.CheckpointError, match="does not describe|does not hold|missing|not described|bytes"
        ) as refused:
            load(other, like)
        assert "\n" not in str(refused.value), name
    file = path / names[2]
    file.write_bytes(contents[names[2]][:-1] + bytes([contents[names[2]][-1] ^ 1]))
    with pytest.raises(jn.CheckpointError, match="corrupt: its checksums"):
        jn.restore(path)
    file.unlink()
    with pytest.raises(jn.CheckpointError, match=r"no file arrays-3-of-4\.safetensors: incomplete"):
        jn.restore(path)


KILLS = [  # the process, and what it was about to do with a file aside, in the second save
    ("1", "open", 1),
    pytest.param("0", "open", 4, marks=pytest.mark.sweep),
    pytest.param("0", "os.rename", 1, marks=pytest.mark.sweep),
    pytest.param("0", "os.mkdir", 1, marks=pytest.mark.sweep),
]


@pytest.mark.parametrize(("which", "event", "calls"), KILLS)
def test_a_process_is_lost_while_it_writes_and_training_goes_on_to_the_same_bits(tmp_path, environment, which, event, calls):
    def run(*fatal):
        port = free_port()
        return [start(TWO, 1, tmp_path, number, port, *fatal, environment=environment) for number in range(2)]

    running = run(which, event, calls)
    lost, other = running[int(which)], running[1 - int(which)]
    _, told = other.communicate(timeout=60)  # the other one ends by itself
    lost.communicate(timeout=60)
    assert lost.returncode == -signal.SIGKILL and other.returncode not in (0, -signal.SIGKILL)
    assert "another task died" in told or "JaxRuntimeError" in told
    assert [path.name for path in checkpoints(tmp_path / "killed")] == ["step-0000000002"]
    first, second = [finish(process)[-1] for process in run("none", "open", 0)]
    assert first == second
    params = [leaf.tolist() for leaf in jax.tree.leaves(jn.restore(tmp_path / "killed")[1])]
    assert params == json.loads(first)
    assert not list((tmp_path / "killed").glob(".*-aside"))
