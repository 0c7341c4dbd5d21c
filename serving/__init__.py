"""The model rail: model versions, vLLM engines, the chat client, output checks and fine-tuning."""
