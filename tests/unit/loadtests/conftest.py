"""The embedding model, for the measurements that need the real one."""

from tests.embedding_model import model_folder

__all__ = ["model_folder"]
