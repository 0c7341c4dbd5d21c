"""Drafts of an adapter on the demo's dev questions, beside the recorded drafts of the shipped one.

    python -m bench.model_tuned                                                     # the recorded drafts of try 4
    python -m bench.model_tuned --base DIR --adapter RUN --drafts drafts.jsonl      # about 5 minutes on two cores
    python -m bench.model_tuned --base DIR --adapter RUN --drafts drafts.jsonl --answer-anyway    # it may not abstain

A quick look before anything is served: every question is searched for and packed as the gateway does it, and the model
writes greedily in transformers, with nothing that holds it to the schema and no check behind it. The shipped version's
first drafts are those of bench/organic (real vLLM, schema enforced, same articles and ranking). Both are scored over the
questions that both were asked. What decides is `twinrail tune evaluate`. With `--answer-anyway` the first word of the
answer may be none that a fixed wording begins with: what the model reads when it has to, as a threshold's worth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from bench.machine import describe_machine
from bench.prompt_packing import Found, search_all
from deploy.postgres import EmbeddedPostgres
from deploy.tuning import QUESTIONS, read_questions
from eval.matching import missing_facts, stale_values_in
from eval.stats import exact_p
from gateway.assembling import sources_of
from gateway.citations import Source
from gateway.highlighting import Highlighter
from retrieval.embedding import Embedder, OnnxEmbedder
from retrieval.minilm import prepare_minilm
from serving.prompting import PromptTemplate, fit, render, token_counter
from serving.tone import check_tone
from serving.versions import SCHEMAS, load_task_schema, prompt_from_json

REPOSITORY = Path(__file__).parent.parent
ORGANIC = Path(__file__).parent / "organic"
RECORDED = Path(__file__).parent / "tuned" / "fourth_try.jsonl"
UNSEEN = REPOSITORY / "bench/unseen"
RESULT = Path(__file__).parent / "results" / "model_tuned.json"
ANSWER_TOKENS, BATCH = 150, 14
#: As many as the gateway asks for (GATEWAY_HITS).
HITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a model wrote for a question, and the documents that it was shown by number."""

    id: str
    text: str
    documents: Mapping[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/model_tuned.json; of `--unseen`, print alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--base", type=Path, help="folder of the base model")
    parser.add_argument("--adapter", type=Path, help="folder of a run of `twinrail tune train`")
    parser.add_argument(
        "--drafts", type=Path, default=RECORDED, help="written, or read where no adapter is given"
    )
    parser.add_argument("--answer-anyway", action="store_true", help="with --adapter: no abstaining")
    parser.add_argument(
        "--unseen", action="store_true", help="the questions of bench/unseen, with nothing beside"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    questions = read_questions(UNSEEN, "holdout") if args.unseen else read_questions(QUESTIONS, "dev")
    if args.adapter:
        drafts = write_drafts(args.home, args.base, args.adapter, questions, answer_anyway=args.answer_anyway)
        args.drafts.write_text(
            "".join(json.dumps(asdict(draft)) + "\n" for draft in drafts), encoding="utf-8"
        )
    adapter = read_drafts(args.drafts)
    if args.unseen:
        for name, outcomes in score(questions, adapter).items():
            print(f"{name:44s} {sum(outcomes):3d}/{len(outcomes):3d}")
        return 0
    shipped = {draft.id: draft for draft in recorded()}
    asked = [q for q in questions if q["id"] in shipped and q["id"] in adapter]
    found = {"shipped": score(asked, shipped), "adapter": score(asked, adapter)}
    rows = table(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "questions": len(asked), "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def write_drafts(
    home: Path,
    base: Path,
    adapter: Path,
    questions: Sequence[Mapping[str, Any]],
    *,
    answer_anyway: bool = False,
) -> list[Draft]:
    """Greedy drafts of every question."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, SuppressTokensAtBeginLogitsProcessor

    prepare_minilm(home / "minilm")
    postgres = EmbeddedPostgres(home / "packing")
    try:
        found = asyncio.run(search_all(postgres.start(), home / "minilm", questions))
    finally:
        postgres.stop()
    manifest = json.loads((adapter / "manifest.json").read_text(encoding="utf-8"))
    template = prompt_from_json(manifest["definition"]["prompt"])
    candidates = asyncio.run(candidates_of(template, found, OnnxEmbedder(home / "minilm")))
    tokenizer: Any = AutoTokenizer.from_pretrained(str(base), padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()
    count = token_counter(base / "tokenizer.json")
    opening = '{"answer":"' if answer_anyway else ""
    # "I can't find that", "I've passed this to a colleague".
    abstaining = tokenizer.encode("I", add_special_tokens=False)
    prompts = []
    for (question, _), sources in zip(found, candidates, strict=True):
        passages = fit(
            template,
            [source.passage for source in sources],
            question["text"],
            prompt_budget_tokens=manifest["prompt_budget_tokens"],
            count_tokens=count,
        )
        messages = [
            {"role": message.role, "content": message.content}
            for message in render(template, passages, question["text"])
        ]
        shown = {str(passage.n): sources[passage.n - 1].document_id for passage in passages}
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append((question["id"], shown, text + opening))
    prompts.sort(key=lambda prompt: len(prompt[2]))
    drafts: list[Draft] = []
    for at in range(0, len(prompts), BATCH):
        part = prompts[at : at + BATCH]
        batch = tokenizer(
            [text for *_, text in part], return_tensors="pt", padding=True, add_special_tokens=False
        )
        begin = batch["input_ids"].shape[1]
        barred = [SuppressTokensAtBeginLogitsProcessor(abstaining, begin)] if answer_anyway else []
        with torch.no_grad():
            written = model.generate(
                **batch,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                logits_processor=barred,
            )
        for (case_id, shown, _), ids in zip(part, written, strict=True):
            text = opening + tokenizer.decode(ids[begin:], skip_special_tokens=True)
            drafts.append(Draft(id=case_id, text=text, documents=shown))
        print(f"{len(drafts)}/{len(prompts)} drafts", file=sys.stderr, flush=True)
    return drafts


async def candidates_of(template: PromptTemplate, found: Found, embedder: Embedder) -> list[list[Source]]:
    """What the gateway packs for each question: its hits, or their sentences."""
    highlighter = Highlighter(embedder)
    return [
        await highlighter.highlight(question["text"], sources_of(hits[:HITS])) or sources_of(hits[:HITS])
        if template.shows == "sentences"
        else sources_of(hits[:HITS])
        for question, hits in found
    ]


def read_drafts(path: Path) -> dict[str, Draft]:
    """Drafts of an earlier run, by question."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: Draft(**row) for row in rows}


def recorded() -> Iterator[Draft]:
    """First drafts of the shipped version on dev questions."""
    for run in ("demo", "demo_rest"):
        for line in (ORGANIC / run / "results.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["arm"] == "rag_tuned" and row["draft"]:
                shown = {str(item["passage"]["n"]): item["document_id"] for item in row["packed"]}
                yield Draft(id=row["case_id"], text=row["draft"]["text"], documents=shown)


def score(questions: Sequence[Mapping[str, Any]], drafts: Mapping[str, Draft]) -> dict[str, list[bool]]:
    """Metric -> one outcome for each question that it applies to, in their order."""
    validator = Draft202012Validator(load_task_schema(SCHEMAS / "support_answer.json"))
    found: dict[str, list[bool]] = {}
    for question in questions:
        draft = drafts[question["id"]]
        for name, outcome in _outcomes(question, draft, validator):
            found.setdefault(name, []).append(outcome)
    return found


def _outcomes(
    question: Mapping[str, Any], draft: Draft, validator: Draft202012Validator
) -> Iterator[tuple[str, bool]]:
    try:
        said = json.loads(draft.text)
    except json.JSONDecodeError:
        said = {}
    answer, cited = str(said.get("answer", "")), said.get("citations") or []
    status = _status(said, cited)
    side = question.get("side_facts", ())
    vital = [fact for fact in question["facts"] if fact[0] not in side] or question["facts"]
    told = not missing_facts(answer, vital)
    right = status == question["status"] and not stale_values_in(answer, question["stale_values"])
    right = right and (told or question["status"] == "abstained")
    fields = ("intent", "escalate", "escalation_reason")
    yield "vital facts, nothing stale, right status", right
    yield "and all fields", right and all(said.get(name) == question[name] for name in fields)
    yield "fits the schema", validator.is_valid(said)
    yield "tone", not check_tone(answer, whole=True)
    if question["status"] == "abstained":
        yield "abstained when due", status == "abstained"
    else:
        yield "vital facts", told
        yield "abstained though there is an answer", status == "abstained"
        if status != "abstained":
            yield "cites gold", any(draft.documents.get(str(n)) in question["gold"] for n in cited)
    due = question["status"] == "escalated"
    yield ("passed on when due" if due else "passed on without need"), status == "escalated"


def _status(said: Mapping[str, Any], cited: Sequence[Any]) -> str:
    if said.get("escalation_reason") == "not_in_help_centre" and not cited:
        return "abstained"
    if said.get("intent") == "off_topic" and not cited:
        return "abstained"
    return "escalated" if said.get("escalate") else "answered"


def table(found: Mapping[str, Mapping[str, Sequence[bool]]]) -> list[dict[str, Any]]:
    """One row a metric with the ratio and, where both are asked the same, the exact paired p; printed and returned."""
    rows = []
    for name, shipped in found["shipped"].items():
        adapter = found["adapter"].get(name, [])
        row: dict[str, Any] = {
            "metric": name,
            **{arm: [sum(each), len(each)] for arm, each in (("shipped", shipped), ("adapter", adapter))},
        }
        if len(shipped) == len(adapter) and name != "cites gold":
            pairs = list(zip(shipped, adapter, strict=True))
            row["p"] = exact_p(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
        rows.append(row)
        ratio = sum(adapter) / len(adapter) / (sum(shipped) / len(shipped)) if adapter and sum(shipped) else 0
        print(
            f"{name:44} shipped {sum(shipped):3}/{len(shipped):3}   adapter {sum(adapter):3}/{len(adapter):3}"
            f"   x{ratio:.2f}" + (f"   p {row['p']:.2f}" if "p" in row else "")
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
