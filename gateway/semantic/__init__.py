"""What makes a semantic cache safe: embeddings, lexical guards, an index, and control of the risk.

No network is used here while the gateway runs. What needs the extra `semantic` (numpy, onnxruntime) says so; the
tokenizer, the guards and the normalisation are plain Python.
"""
