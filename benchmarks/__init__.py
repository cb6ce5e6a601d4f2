"""One module per question.  `python -m benchmarks list` prints the questions, `python -m benchmarks run` answers them."""
