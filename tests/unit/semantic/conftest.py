"""Where the embedding model lies, for the tests that need the real one."""

from tests.embedding_model import model_folder, model_source

__all__ = ["model_folder", "model_source"]
