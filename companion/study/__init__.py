"""The study: does a CNN after BERT help, against which other heads, on which data, and how sure is that?

    python -m companion.study DATASETS ...     trains classifiers, and writes what they predict

specs and recipes say what is compared, and how it is trained; splits, vectors, heads, experiment and store do it.
results, statistics, answer and challenge read the files, and need no PyTorch.
"""
