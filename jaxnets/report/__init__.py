"""A page on a model for the browser: its graph, the formula, code and Jacobian of every module, the order in which the
Jacobians are multiplied, how they compare with autodiff, why LogSoftMax, a training, and the benchmarks.

`content`, `saturation`, `training` and `speed` compute what the page shows, `page` puts the file together from page.html and
the folders style and script, and `report` makes the whole page on a model.  `explorer` serves a live page, `fields`
checks its requests, `worker` is the process that computes for it, and `jobs` is what that process can do.
"""
