"""The series' block on long documents, names in a text and summaries: the same classes in PyTorch and in Keras."""
