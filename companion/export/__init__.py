"""`python -m companion.export`: a trained BERT-CNN as an ONNX file, for programs without PyTorch and Keras."""
