"""Bodies of the HTTP API, one module for each surface. The chat completions are in `openai_api`."""
