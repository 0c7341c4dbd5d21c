"""Routing benchmark: what a language model finds of twenty labels at once is what it finds of each."""

from __future__ import annotations

import pytest

from bench.routing.models import LabelTree, label_scores

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_labels_in_one_pass_score_as_each_by_itself() -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 40}
    config = transformers.LlamaConfig(**size, num_attention_heads=4, num_key_value_heads=2)
    # Weights of the usual size would make every place look alike.
    config.initializer_range = 0.5
    model = transformers.LlamaForCausalLM(config).eval()
    head, rest = [1, 2, 3, 4, 5], [6, 7, 8]
    labels = [[9, 10, 11, 2], [9, 10, 12, 13, 2], [14, 2], [9, 15, 2]]

    def alone(label: list[int]) -> float:
        logits = model(input_ids=torch.tensor([head + rest + label])).logits[0, -len(label) - 1 : -1]
        return float(torch.log_softmax(logits, -1)[range(len(label)), label].sum())

    with torch.no_grad():
        cache = model(input_ids=torch.tensor([head]), use_cache=True).past_key_values
        twice = [label_scores(model, cache, rest, LabelTree.of(labels)) for _ in range(2)]
        expected = pytest.approx([alone(label) for label in labels], abs=1e-4)
    assert twice == [expected, expected]
