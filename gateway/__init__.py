"""An LLM gateway: an asynchronous reverse proxy in front of model endpoints."""

__version__ = "0.1.0"
