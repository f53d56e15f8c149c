"""`python -m companion.predict`: a class for every text of a file, a folder or a dataset, on one machine or many."""
