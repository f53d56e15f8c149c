"""How does a CNN perform after BERT embedding? The four spellings of one model, and what they need.

Importing this package loads neither PyTorch nor TensorFlow: each framework is imported by the module that is about it.
"""

__version__ = "1.0.0"
