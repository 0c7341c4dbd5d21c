"""Three ways to choose a queue: two plain classifiers, and a language model that is asked which label it would write."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench.routing.tickets import Ticket
from retrieval.embedding import OnnxEmbedder
from serving.examples import ChatTokenizer
from serving.prompting import PromptTemplate, render
from serving.versions import canonical_json

FloatArray = NDArray[np.float64]
#: Tickets that say nothing: what the prompt makes of them is its own liking for some labels (contextual calibration,
#: Zhao et al. 2021).
CONTENT_FREE = ("N/A", "[MASK]", "")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The log probability of each label after each ticket, one row a ticket."""

    queues: tuple[str, ...]
    scores: FloatArray
    seconds_each: float
    prompt_tokens: float

    def likeliest(self, prior: FloatArray | None = None) -> Routed:
        """The likeliest label; with a prior, the one that the ticket makes likelier than it was by the most."""
        scores = self.scores if prior is None else self.scores - prior
        return Routed(
            queues=tuple(self.queues[n] for n in scores.argmax(axis=1)),
            training_s=0.0,
            seconds_each=self.seconds_each,
            prompt_tokens=self.prompt_tokens,
        )

    def prior(self) -> FloatArray:
        """The mean probability of each label over these tickets, as a logarithm."""
        likely = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        shares = likely / likely.sum(axis=1, keepdims=True)
        return np.asarray(np.log(shares.mean(axis=0)))


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

    def score(self, texts: Sequence[str]) -> Scored:
        """One ticket at a time."""
        prompts = [self._prompt(text) + self._opening for text in texts]
        shared = _shared_start(prompts)
        tree = LabelTree.of(self._labels)
        began = time.perf_counter()
        with self._torch.no_grad():
            head = self._model(
                input_ids=self._torch.tensor([prompts[0][:shared]]), use_cache=True, logits_to_keep=1
            ).past_key_values
            scores = [label_scores(self._model, head, prompt[shared:], tree) for prompt in prompts]
        return Scored(
            queues=self._queues,
            scores=np.asarray(scores),
            seconds_each=(time.perf_counter() - began) / max(1, len(texts)),
            prompt_tokens=sum(map(len, prompts)) / max(1, len(prompts)),
        )

    def _prompt(self, text: str) -> list[int]:
        messages = [
            {"role": message.role, "content": message.content} for message in render(self._template, (), text)
        ]
        tokenizer: ChatTokenizer = self._tokenizer
        return self._ids(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTree:
    """Labels as a tree of their tokens: what they share is computed once, and all of them in one pass."""

    #: Every token that another one follows, and the node before it; -1: the end of the prompt.
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    #: Of each label the node before each token, and the token.
    steps: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> Self:
        """The tree of some labels, each of at least one token."""
        nodes: dict[tuple[int, int], int] = {}
        steps = []
        for label in labels:
            before, taken = -1, []
            for place, token in enumerate(label, 1):
                taken.append((before, token))
                if place < len(label):
                    before = nodes.setdefault((before, token), len(nodes))
            steps.append(tuple(taken))
        return cls(
            tokens=tuple(token for _, token in nodes),
            parents=tuple(parent for parent, _ in nodes),
            steps=tuple(steps),
        )


def label_scores(model: Any, head: Any, rest: Sequence[int], tree: LabelTree) -> list[float]:
    """The log probability of each label after `head` (a cache, left as it was) and the rest of the prompt."""
    import torch

    length, asked, nodes = head.get_seq_length(), len(rest), len(tree.tokens)
    # A node sees the prompt, the nodes that lead to it and itself, and stands where it would if it were alone.
    seen = torch.ones(asked + nodes, length + asked + nodes, dtype=torch.bool).tril(length)
    seen[asked:, length + asked :] = torch.eye(nodes, dtype=torch.bool)
    places = list(range(length, length + asked))
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            seen[asked + node] |= seen[asked + parent]
        places.append(places[asked + parent] + 1)
    out = model(
        input_ids=torch.tensor([[*rest, *tree.tokens]]),
        position_ids=torch.tensor([places]),
        attention_mask=torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None],
        past_key_values=head,
        use_cache=True,
        logits_to_keep=nodes + 1,
    )
    head.crop(-(asked + nodes))
    after = torch.log_softmax(out.logits[0].float(), -1)  # row 0 is the end of the prompt, row n + 1 node n
    return [sum(float(after[before + 1, token]) for before, token in steps) for steps in tree.steps]


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
