"""The series' block on long documents, names in a text and summaries: the same classes in PyTorch and in Keras.

`python -m companion.tasks --help` trains their heads and those they are compared with.
"""
