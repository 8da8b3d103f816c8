"""Names of OpenTelemetry's GenAI conventions, pinned here and nowhere else.

The conventions left `semantic-conventions` in May 2026 for a repository of their own that has made
no release yet, and renames are queued there (`cache_creation` → `cache_write`). This is the set as
of August 2026; a change of names is a change of this file. Content (`gen_ai.input.messages` and
the like) is opt-in there and absent here.
"""

from gateway.core.exchange import Operation

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"

SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"

OPERATIONS: dict[Operation, str] = {
    "chat": "chat",
    "text_completion": "text_completion",
    "embeddings": "embeddings",
    "responses": "chat",
    "messages": "chat",
    "count_tokens": "count_tokens",
    "relay": "relay",
}
"""`gen_ai.operation.name`; the last two are our own, since the conventions name none."""

PROVIDERS: dict[str, str] = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
}
"""`gen_ai.provider.name` by a target's `provider`. Kinds without a name there (`oci`, `mock`) keep their own."""
