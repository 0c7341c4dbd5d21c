"""Three ways to choose a queue: two plain classifiers, and a language model that is asked which label it would write."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.routing.tickets import Ticket
from retrieval.embedding import OnnxEmbedder
from serving.examples import ChatTokenizer
from serving.prompting import PromptTemplate, render
from serving.versions import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The queue of each ticket, in their order, and what it took."""

    queues: tuple[str, ...]
    training_s: float
    seconds_each: float
    prompt_tokens: float = 0.0


def tfidf_svm(train: Sequence[Ticket], test: Sequence[Ticket]) -> Routed:
    """Words and word pairs, a linear support vector machine."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    return _fit_and_choose(model.fit, model.predict, train, test)


def embedded_regression(embedder_folder: Path) -> Callable[[Sequence[Ticket], Sequence[Ticket]], Routed]:
    """The knowledge rail's embedding of the ticket, logistic regression on it."""

    def choose(train: Sequence[Ticket], test: Sequence[Ticket]) -> Routed:
        from sklearn.linear_model import LogisticRegression

        embedder = OnnxEmbedder(embedder_folder)

        def embed(texts: Sequence[str]) -> Any:
            return np.asarray(asyncio.run(embedder.embed_documents(list(texts))))

        model = LogisticRegression(C=20.0, max_iter=2000)
        return _fit_and_choose(
            lambda texts, queues: model.fit(embed(texts), queues),
            lambda texts: model.predict(embed(texts)),
            train,
            test,
        )

    return choose


def _fit_and_choose(
    fit: Callable[[list[str], list[str]], Any],
    predict: Callable[[list[str]], Any],
    train: Sequence[Ticket],
    test: Sequence[Ticket],
) -> Routed:
    began = time.perf_counter()
    fit([ticket.text for ticket in train], [ticket.queue for ticket in train])
    trained = time.perf_counter()
    queues = [str(queue) for queue in predict([ticket.text for ticket in test])]
    ended = time.perf_counter()
    return Routed(
        queues=tuple(queues), training_s=trained - began, seconds_each=(ended - trained) / max(1, len(test))
    )


class LabelScorer:
    """A language model that gives each ticket the queue whose JSON it finds likeliest, whole and to its last mark.

    That is what decoding under the schema would give if it looked at every label to its end. The part of the prompt
    that all tickets share is computed once.
    """

    def __init__(
        self, base: Path, template: PromptTemplate, queues: Sequence[str], *, adapter: Path | None = None
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(base))
        model: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        self._model = model.eval()
        self._template = template
        self._queues = tuple(queues)
        written = [
            [*self._ids(canonical_json({"queue": queue})), self._tokenizer.eos_token_id] for queue in queues
        ]
        shared = _shared_start(written)
        self._opening, self._labels = written[0][:shared], [ids[shared:] for ids in written]

    def choose(self, tickets: Sequence[Ticket]) -> Routed:
        """One ticket at a time."""
        prompts = [self._prompt(ticket.text) + self._opening for ticket in tickets]
        shared = _shared_start(prompts)
        began = time.perf_counter()
        with self._torch.no_grad():
            head = self._model(input_ids=self._tensor([prompts[0][:shared]]), use_cache=True).past_key_values
            queues = [self._queues[self._likeliest(prompt[shared:], head, shared)] for prompt in prompts]
        return Routed(
            queues=tuple(queues),
            training_s=0.0,
            seconds_each=(time.perf_counter() - began) / max(1, len(tickets)),
            prompt_tokens=sum(map(len, prompts)) / max(1, len(prompts)),
        )

    def _likeliest(self, rest: Sequence[int], head: Any, length: int) -> int:
        torch = self._torch
        if (extra := head.get_seq_length() - length) > 0:
            head.crop(-extra)
        out = self._model(input_ids=self._tensor([rest]), past_key_values=head, use_cache=True)
        first = torch.log_softmax(out.logits[0, -1].float(), -1)
        width = max(map(len, self._labels))
        ids = self._tensor([[*label, *[0] * (width - len(label))] for label in self._labels])
        cache = _repeated(out.past_key_values, len(self._labels))
        after = torch.log_softmax(
            self._model(input_ids=ids[:, :-1], past_key_values=cache).logits.float(), -1
        )
        scores = [
            float(first[label[0]])
            + sum(float(after[n, place, token]) for place, token in enumerate(label[1:]))
            for n, label in enumerate(self._labels)
        ]
        return int(np.argmax(scores))

    def _prompt(self, text: str) -> list[int]:
        messages = [
            {"role": message.role, "content": message.content} for message in render(self._template, (), text)
        ]
        tokenizer: ChatTokenizer = self._tokenizer
        return self._ids(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _tensor(self, rows: Sequence[Sequence[int]]) -> Any:
        return self._torch.tensor([list(row) for row in rows])


def training_rows(tickets: Sequence[Ticket]) -> list[str]:
    """Rows of `twinrail tune`: a ticket without passages, and its queue as JSON."""
    return [
        json.dumps(
            {"id": ticket.id, "question": ticket.text, "passages": [], "wanted": {"queue": ticket.queue}}
        )
        for ticket in tickets
    ]


def _shared_start(rows: Sequence[Sequence[int]]) -> int:
    shared = 0
    while all(len(row) > shared + 1 for row in rows) and len({row[shared] for row in rows}) == 1:
        shared += 1
    return shared


def _repeated(cache: Any, times: int) -> Any:
    from copy import deepcopy

    many = deepcopy(cache)
    many.batch_repeat_interleave(times)
    return many
