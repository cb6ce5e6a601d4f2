"""Experiments that are measured over several seeds, and what they find: the form of the tricks and of the uses.

`training` trains many small networks side by side, `result` turns the numbers of an experiment into a table, a picture
(`panels`) and a sentence (`words`), and a `collection` lists experiments and measures one of them.
"""
