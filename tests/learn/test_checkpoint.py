"""Checkpoints: what is saved comes back, what is damaged never does, and a kill at any moment costs one step at most."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

from jaxnets import CheckpointError
from jaxnets.learn.checkpoint import ARRAYS, CONFIG, SUMS, checkpoints, load, read_config, save

from .runs import checksums

FILES = (ARRAYS, CONFIG, SUMS)
Pair = namedtuple("Pair", "left right")


def raw(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def assert_same(found, tree):
    """The same structure, dtypes, shapes and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(raw(a)).tobytes() == np.asarray(raw(b)).tobytes()


# --- there and back -----------------------------------------------------------------------------------------------


def test_every_dtype_shape_and_container_comes_back(tmp_path):
    names = ["bool", "bfloat16", "float16", "float32", "float64", "complex64"]
    names += [f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64)]
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.zeros(3)}
    tree = {
        "dtypes": [jnp.array([[0, 1, 0], [1, 1, 0]], name) for name in names],
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
        "scalars": (jnp.float32(2.5), np.int8(3), jnp.array(True)),
        "empty": [np.zeros((0, 3)), np.zeros(0, np.int32)],
        "keys": Pair(jax.random.key(1), jax.random.split(jax.random.key(2, impl="rbg"), 3)),
        "a name with ' and \" and ∂": {7: np.arange(4)},
        "nothing": None,
        "optimizer": optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 9))).init(params),
    }
    path = save(tmp_path / "new" / "folder", tree, {"note": "∂y/∂x", "deep": [1, {"a": None}]}, 12)
    assert path == tmp_path / "new" / "folder" / "step-0000000012"
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    for where in path, path.parent:
        found = load(where, tree)
        assert_same(found.tree, tree)
        assert found.path == path
        assert found.config == read_config(where)
        assert found.config["note"] == "∂y/∂x"
        assert found.config["deep"] == [1, {"a": None}]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree["optimizer"])
    assert_same(load(path, {"optimizer": shapes}, whole=False).tree["optimizer"], tree["optimizer"])
    assert subprocess.run(["sha256sum", "-c", SUMS], cwd=path, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "view", [np.transpose, lambda a: a[::-1], lambda a: a[:, ::2]], ids=["transposed", "reversed", "strided"]
)
def test_views_are_saved_as_what_they_show(tmp_path, view):
    tree = {"a": view(np.arange(12.0).reshape(3, 4))}
    save(tmp_path, tree, {}, 1)
    assert_same(load(tmp_path, tree).tree, tree)


def test_other_orders_of_bytes_are_put_right(tmp_path):
    save(tmp_path, [np.arange(3, dtype=">i4")], {}, 1)
    assert_same(load(tmp_path, [np.zeros(3, np.int32)]).tree, [np.arange(3, dtype=np.int32)])


def test_the_description_has_its_own_names_and_is_json(tmp_path):
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path, [np.ones(2)], {"a": object()}, 1)
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, [np.ones(2)], {"a": np.nan}, 1)
    assert not list(tmp_path.iterdir())
    save(tmp_path, [np.ones(2)], {"format": 5, "arrays": "mine"}, 1)
    assert_same(load(tmp_path, [np.zeros(2)]).tree, [np.ones(2)])


# --- the folder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 3, 10])
def test_the_newest_few_stay(tmp_path, keep):
    for step in 5, 9, 10, 1000, 1001:
        save(tmp_path, [np.full(2, step)], {}, step, keep)
    steps = [5, 9, 10, 1000, 1001][-keep:]
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:010}" for step in steps]
    assert len(list(tmp_path.iterdir())) == len(steps)
    assert load(tmp_path, [np.zeros(2, int)]).tree[0][0] == 1001


def test_a_step_is_saved_once(tmp_path):
    path = save(tmp_path, [np.ones(2)], {"a": 1}, 3)
    assert save(tmp_path, [np.ones(2)], {"a": 1}, 3) == path
    for tree, config in ([np.zeros(2)], {"a": 1}), ([np.ones(2)], {"a": 2}):
        with pytest.raises(CheckpointError, match="another checkpoint of this step"):
            save(tmp_path, tree, config, 3)
    assert_same(load(tmp_path, [np.ones(2)]).tree, [np.ones(2)])
    assert len(list(tmp_path.iterdir())) == 1


# --- kill -9 ------------------------------------------------------------------------------------------------------

KILLS = '''
"""Children that save step after step are killed; after each of them, the folder is looked at."""
import os, random, signal, sys, time
import numpy as np
from jaxnets.learn.checkpoint import checkpoints, load, save

folder, LIKE = sys.argv[1], {"a": np.zeros(2000), "b": np.zeros((), np.int64)}

def tree(step):
    return {"a": np.random.default_rng(step).random(2000), "b": np.array(step)}

def saved(limit):
    """Steps in a child until it is dead: by the n-th call that touches files, or by the parent at a random moment."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        count = 0
        def fatal(event, _):
            nonlocal count
            if event == "open" or event.startswith(("os.", "shutil.", "tempfile.")):
                count += 1
                if count == limit:
                    os.kill(os.getpid(), signal.SIGKILL)
        if limit:
            sys.addaudithook(fatal)
        for step in range(newest() + 1, newest() + (3 if limit else 1000)):
            save(folder, tree(step), {"step": step}, step, 2)
            os.write(writer, b"%d " % step)
        os._exit(0)
    os.close(writer)
    if limit is None:
        time.sleep(random.random() * 0.02)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as told:
        steps = told.read().split()
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    return killed, int(steps[-1]) if steps else None

def newest():
    found = checkpoints(folder)
    return int(found[-1].name[5:]) if found else 0

def look(before, told):
    """The newest one is whole, is that step, and no step that was told to be saved is missing."""
    step = newest()
    assert step - (told or before) in (0, 1), (before, told, step)
    if step:
        for path in checkpoints(folder):
            found = load(path, LIKE)
            number = int(path.name[5:])
            assert found.config["step"] == found.tree["b"] == number
            assert (found.tree["a"] == tree(number)["a"]).all()
    save(folder, tree(step + 1), {"step": step + 1}, step + 1, 2)
    left = sorted(os.listdir(folder))
    assert left == [path.name for path in checkpoints(folder)] and len(left) <= 2, left

def kill(limit=None):
    before = newest()
    killed, told = saved(limit)
    look(before, told)
    return killed

random.seed(0)
calls = 0
while kill(calls + 1):
    calls += 1
print(calls, sum(kill() for _ in range(120 - calls)))
'''


def test_kill_9_at_120_moments_of_saving(tmp_path):
    """At each call that touches a file in two saves, the second of which removes an old one; the rest at random."""
    done = subprocess.run([sys.executable, "-c", KILLS, str(tmp_path / "to")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls, others = map(int, done.stdout.split())
    assert calls >= 30
    assert calls + others == 120


# --- damage -------------------------------------------------------------------------------------------------------

LIKE = {"w": np.zeros((3, 2), np.float32), "n": np.zeros((), np.int32), "key": jax.random.key(0)}


@pytest.fixture
def saved(tmp_path):
    tree = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "n": np.array(7, np.int32), "key": jax.random.key(8)}
    return save(tmp_path / "saved", tree, {"note": "good"}, 1)


def refused(path, words=None):
    """An error of one line that names the path."""
    with pytest.raises(CheckpointError, match=words) as raised:
        load(path, LIKE)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    assert len(message) < 500
    return message


def forged(path, **contents):
    """Other contents with the right checksums."""
    for name, content in contents.items():
        (path / {"arrays": ARRAYS, "config": CONFIG}[name]).write_bytes(content)
    (path / SUMS).write_bytes(checksums({name: (path / name).read_bytes() for name in (ARRAYS, CONFIG)}))
    return path


def test_no_bit_flip_loads(saved):
    rng = np.random.default_rng(0)
    contents = {name: (saved / name).read_bytes() for name in FILES}
    for i in range(1000):
        name = FILES[i % 3]
        content = bytearray(contents[name])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (saved / name).write_bytes(content)
        refused(saved)
        if i % 10 == 0:
            with pytest.raises(CheckpointError):
                read_config(saved)
        (saved / name).write_bytes(contents[name])
    load(saved, LIKE)


def test_no_truncated_nor_extended_file_loads(saved):
    rng = np.random.default_rng(1)
    contents = {name: (saved / name).read_bytes() for name in FILES}
    for i in range(200):
        name = FILES[i % 3]
        length = rng.integers(len(contents[name])) if i >= 6 else (0, len(contents[name]) - 1)[i // 3]
        (saved / name).write_bytes(contents[name][:length])
        refused(saved, "corrupt")
        (saved / name).write_bytes(contents[name])
    for name in FILES:
        for more in b"\0", b"\n", contents[name]:
            (saved / name).write_bytes(contents[name] + more)
            refused(saved, "corrupt")
        (saved / name).write_bytes(contents[name])
    load(saved, LIKE)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_missing_swapped_folders_or_huge(saved, name):
    other = save(saved.parent, jax.tree.map(lambda leaf: leaf if leaf.dtype == LIKE["key"].dtype else leaf + 1, LIKE), {}, 2)
    good = (saved / name).read_bytes()
    shutil.copy(other / name, saved / name)
    refused(saved, "corrupt")
    os.remove(saved / name)
    refused(saved, f"no file {name}")
    (saved / name).mkdir()
    refused(saved, f"no file {name}")
    os.rmdir(saved / name)
    (saved / name).write_bytes(good)
    os.truncate(saved / name, 2**40)  # a hole: no space on the disk, too much memory to read
    refused(saved, "1099511627776 bytes, expected at most")
    (saved / name).write_bytes(good)
    load(saved, LIKE)


@pytest.mark.parametrize("name", FILES)
def test_a_description_is_not_read_beside_a_file_of_64_gigabytes(saved, name):
    """Also where nobody knows which arrays to expect; and a part is loaded without room for the rest."""
    good = (saved / name).read_bytes()
    os.truncate(saved / name, 64 * 2**30)
    for read in (read_config, lambda path: load(path, {"n": LIKE["n"]}, whole=False)):
        with pytest.raises(CheckpointError, match="68719476736 bytes, expected at most"):
            read(saved)
    (saved / name).write_bytes(good)
    read_config(saved)


def test_a_part_is_loaded_without_room_for_the_rest(tmp_path):
    count = 2**24
    path = save(tmp_path, {"large": np.zeros(count, np.float32), "small": np.arange(3)}, {}, 1)
    tracemalloc.start()
    try:
        assert_same(load(path, {"small": np.zeros(3, int)}, whole=False).tree, {"small": np.arange(3)})
        assert tracemalloc.get_traced_memory()[1] < count / 8
    finally:
        tracemalloc.stop()


def test_paths_without_a_checkpoint(tmp_path, saved):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "none", "no such folder")
    refused(tmp_path / "file", "no folder")
    refused(tmp_path / "empty", "no checkpoint in this folder")
    refused(saved / ARRAYS, "no folder")
    for name in FILES:
        (saved / name).write_bytes(b"")
    refused(saved, "corrupt")
    for name in FILES:
        os.remove(saved / name)
    refused(saved, "no file")


ARRAY = {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}


def with_header(**changes):
    """A file of arrays whose header says something else."""
    header = json.dumps({"['w']": ARRAY | changes}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(24)


def arrays(**changes):
    named = {f"['{name}']": np.asarray(raw(leaf)) for name, leaf in (LIKE | changes).items() if leaf is not None}
    return safetensors.numpy.save(named)


FOREIGN_ARRAYS = {
    "another name": (arrays(w=None, v=LIKE["w"]), "'v'"),
    "one less": (arrays(n=None), r"\['n'\] is missing"),
    "one more": (arrays(m=LIKE["n"]), "'m'"),
    "another dtype": (arrays(w=LIKE["w"].astype(np.int32)), "I32 where float32 is described"),
    "a wider dtype": (arrays(w=LIKE["w"].astype(np.float64)), "F64 where float32 is described"),
    "another shape": (arrays(w=LIKE["w"].T.copy()), r"\['w'\] is of shape \[2, 3\] where \[3, 2\] is described"),
    "shorter": (arrays(w=LIKE["w"][:2]), r"\['w'\] is of shape \[2, 2\] where \[3, 2\] is described"),
    "nothing": (b"", "cannot be read"),
    "a header beyond the file": ((10**9).to_bytes(8, "little") + b"{}", "cannot be read"),
    "a header of 16 EiB": (b"\xff" * 8 + b"{}", "cannot be read"),
    "data beyond the file": (with_header(data_offsets=[0, 2**50], shape=[2**48]), "cannot be read"),
    "a shape beyond its data": (with_header(shape=[2**62, 2**62]), "cannot be read"),
    "offsets in reverse": (with_header(data_offsets=[24, 0]), "cannot be read"),
    "negative offsets": (with_header(data_offsets=[-24, 0]), "cannot be read"),
    "an unknown dtype": (with_header(dtype="Q7"), "cannot be read"),
    "a header that is no JSON": (b"\x02" + bytes(7) + b"{{", "cannot be read"),
}


@pytest.mark.parametrize("name", FOREIGN_ARRAYS)
def test_arrays_of_others_with_rightchecksums(saved, name):
    content, words = FOREIGN_ARRAYS[name]
    refused(forged(saved, arrays=content), words)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_is_not_unpickled(saved, tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    refused(forged(saved, arrays=pickle.dumps(Bomb())), "cannot be read")
    refused(forged(saved, config=pickle.dumps(Bomb())), "no JSON")
    assert not (tmp_path / "unpickled").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "unpickled").exists()  # the bomb is live


FOREIGN_CONFIGS = [b"", b"\xff\xfe", b"{", b"[" * 10**5, b'{"a": ' + b"9" * 5000 + b"}", [], {}, None, 3, "x", float("nan")]
FOREIGN_CONFIGS += [{"format": 2}, {"format": "1"}, {"format": 1}, {"format": 1, "arrays": []}, {"format": 1, "arrays": {}}]
DESCRIPTIONS = [None, 3, "x", [], {}, [None], [3], ["O", []], ["nosuch", []], ["int8", []], [["i4", "i4"], []], [{}, []]]
PRNGS = [None, [], {}, "threefry2x32", {"['key']": "rbg"}, {"['key']": 3}, {"['key']": None}]


def test_descriptions_of_others_with_rightchecksums(saved):
    good = json.loads((saved / CONFIG).read_text())
    named = [{**good, "arrays": {**good["arrays"], "['w']": described}} for described in DESCRIPTIONS]
    keys = [{**good, "prng": prng} for prng in PRNGS]
    without = [{name: value for name, value in good.items() if name != gone} for gone in ("format", "arrays", "prng")]
    for config in [*FOREIGN_CONFIGS, *named, *keys, *without]:
        refused(forged(saved, config=config if isinstance(config, bytes) else json.dumps(config).encode()))
    load(forged(saved, config=json.dumps(good).encode()), LIKE)


OTHERS = [
    ({"w": np.zeros((3, 2))}, r"\['w'\] is float32\[3,2\], expected float64\[3,2\]"),
    ({"v": LIKE["n"]}, r"\['v'\] is missing"),
    ({"n": None}, r"\['n'\] is not expected"),
    ({"key": jax.random.key(0, impl="rbg")}, r"\['key'\] is uint32\[2\], expected uint32\[4\]"),
]


@pytest.mark.parametrize(("changes", "words"), OTHERS, ids=[words for _, words in OTHERS])
def test_what_does_not_fit_is_named(saved, changes, words):
    with pytest.raises(CheckpointError, match=words):
        load(saved, LIKE | changes)


def test_keys_of_another_kind_but_the_same_size(tmp_path):
    save(tmp_path, [jax.random.key(0, impl="rbg")], {}, 1)
    with pytest.raises(CheckpointError, match="is a key of rbg, expected unsafe_rbg"):
        load(tmp_path, [jax.random.key(0, impl="unsafe_rbg")])
