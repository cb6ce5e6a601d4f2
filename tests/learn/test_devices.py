"""Training on many devices: eight virtual ones in one process, and two processes with two each, give what one gives."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxnets.learn.mesh import mesh_of

from . import processes
from .processes import finish, free_port, start

EIGHT = """
programs, step = [], descent.Descent._run_until

def spy(self, *arguments):
    if not programs:
        program = self.run_loop.lower(*arguments).compile().as_text()
        programs.append((program, jax.tree.leaves(arguments[0]), jax.jit(self._batch)(*arguments[:2])[:2]))
    return step(self, *arguments)

assert len(jax.devices()) == 8
alone, meshes = {}, {"autodiff": jax.make_mesh((8,), ("batch",)), "manual": jax.make_mesh((4, 2), ("a", "b"))}
for gradient, mesh in meshes.items():
    alone[gradient] = run(gradient=gradient)
    descent.Descent._run_until = spy
    many = run(gradient=gradient, mesh=mesh)
    descent.Descent._run_until = step
    same(many, alone[gradient])
    text, state, batch = programs.pop()
    assert "all-reduce" in text
    for leaf in state:  # parameters and optimizer on each device
        assert leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 8
    for part in batch:  # two examples on each
        assert [shard.data.shape[0] for shard in part.addressable_shards] == [2] * 8
        assert len({str(shard.index) for shard in part.addressable_shards}) == 8
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(many.params))

mesh = meshes["autodiff"]
run(mesh=mesh, epochs=1, checkpoint=folder / "mixed")
run(epochs=2, checkpoint=folder / "mixed", resume=True)
same(run(mesh=mesh, checkpoint=folder / "mixed", resume=True), alone["autodiff"])

for size in 12, 66, None:
    try:
        run(mesh=mesh, batch_size=size, checkpoint=folder / "none")
    except ValueError as error:
        print(error)
assert not (folder / "none").exists()
print(json.dumps(said(alone["autodiff"])))
"""

PROCESS = """
number = sys.argv[3]
meet(2)
assert (jax.process_count(), len(jax.devices()), len(jax.local_devices())) == (2, 4, 2)
mesh = jax.make_mesh((4,), ("batch",))
mine = folder / number  # of each process, to see who writes
found = run(mesh=mesh, log=mine / "log", checkpoint=mine, save_every=3)
run(mesh=mesh, epochs=4, checkpoint=folder / "0", resume=True)
print(json.dumps(said(found)))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return processes.environment(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def eight(tmp_path_factory, environment):
    return finish(start(EIGHT, 8, tmp_path_factory.mktemp("eight"), environment=environment))


def test_eight_devices_are_one(eight):
    assert eight[:-1] == [f"fit: batch_size {n} must be a multiple of the 8 devices of the mesh" for n in (12, 66, 66)]


def test_two_processes_are_one(tmp_path, environment, eight):
    port = free_port()
    running = [start(PROCESS, 2, tmp_path, number, port, environment=environment) for number in range(2)]
    first, second = [json.loads(finish(process)[-1]) for process in running]
    history, params = json.loads(eight[-1])  # of one device
    assert first == second
    np.testing.assert_allclose(first[0], history, rtol=1e-6)
    for a, b in zip(first[1], params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    assert (tmp_path / "0" / "log").read_text().count("\n") == 3
    assert len(list((tmp_path / "0").glob("step-*"))) == 3
    assert not (tmp_path / "1").exists()


DEVICES_OF_A_TASK = """
import numpy as np
from jaxnets.course import practicum
from jaxnets.course.practicum import run

meshes, fit = [], run.fit

def spy(*arguments, mesh, **options):
    meshes.append(None if mesh is None else mesh.devices.shape)
    return fit(*arguments, mesh=mesh, **options)

run.fit = spy
found = [practicum.train("spiral", epochs=2, devices=devices).to_json() for devices in (4, None)]
assert meshes[0] == (4,) and meshes[-1] is None, meshes
told = [{k: v for k, v in each.items() if isinstance(v, float) and k != "seconds"} for each in found]
assert len(told[0]) > 4, told
for name, value in told[0].items():
    np.testing.assert_allclose(value, told[1][name], rtol=1e-5, err_msg=name)
try:
    practicum.train("spiral", devices=9)
except ValueError as error:
    print(error)
"""


def test_a_task_is_shared_by_as_many_devices_as_one_asks_for(environment):
    done = subprocess.run(
        [sys.executable, "-c", DEVICES_OF_A_TASK], capture_output=True, text=True, env=environment, timeout=300
    )
    assert not done.returncode, done.stderr
    assert done.stdout.strip() == "train: devices 9, but JAX has 4 of the kind cpu"


def test_virtual_devices_are_few(monkeypatch):
    """Each has threads of its own: a hundred thousand would be made for a minute, and then refused."""
    asked = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: asked.append(setting))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with pytest.raises(ValueError, match="train: devices 100000, but JAX has"):
        mesh_of(100_000)
    assert not asked
