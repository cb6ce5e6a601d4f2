"""One script a question; `python -m benchmarks list` names them, `python -m benchmarks run` answers them."""
