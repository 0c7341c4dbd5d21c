"""The demo's training rows: its questions, the passages that retrieval shows for them, the wanted JSON."""

from deploy.tuning.questions import QUESTIONS, WRITTEN, read_questions

__all__ = ["QUESTIONS", "WRITTEN", "read_questions"]
