"""A page on a model: its graph, every module's formula, code and Jacobian, the order in which they are multiplied, how they
compare with autodiff, why LogSoftMax, a training, and the benchmarks."""
