"""What jaxnets relies on in JAX beyond what JAX promises, a test for each thing.

Every contract is tried on JAX alone.  Its docstring is a sentence that holds for every version of JAX that we support; where
a new JAX breaks it, the test fails and tells the sentence and the functions of ours that rely on it.  `test_source.py` reads
our source: what leans on JAX without a contract in the other files fails there.
"""
