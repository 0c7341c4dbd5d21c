"""`twinrail model register` up to the database: what it takes, what it refuses, and what a dry run says."""

import io
import json
import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from deploy.cli import main
from deploy.commands.models import PACKAGED_PROMPTS, PACKAGED_SCHEMAS
from deploy.errors import UsageError
from deploy.models import ModelFolders
from deploy.output import Output
from deploy.version_weights import own_weights
from serving.prompting import PROMPTS
from serving.versions import SCHEMAS

TINY = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
PROMPT = "name: tiny\nsystem: Summarise the ticket as JSON.\n"
ROUTING = ("--schema", "ticket_routing", "--prompt", "ticket_routing")


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TWINRAIL_MODELS", "DATABASE_URL", "SERVING_ENGINES", "SERVING_MAX_MODEL_LEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    schema, prompt = tmp_path / "tiny.json", tmp_path / "tiny.yaml"
    schema.write_text(json.dumps(TINY), encoding="utf-8")
    prompt.write_text(PROMPT, encoding="utf-8")
    return str(schema), str(prompt)


def register(*arguments: str, name: str = "tiny") -> tuple[int, str, str]:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = main(["model", "register", "--name", name, "--dry-run", *arguments], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    return code, out.stdout.getvalue(), out.stderr.getvalue()


def test_what_is_packaged_is_there() -> None:
    assert all((SCHEMAS / f"{name}.json").exists() for name in PACKAGED_SCHEMAS)
    assert all((PROMPTS / f"{name}.yaml").exists() for name in PACKAGED_PROMPTS)


def test_a_dry_run_prints_the_id_alone(files: tuple[str, str], tmp_path: Path) -> None:
    code, data, log = register("--schema", files[0], "--prompt", files[1])
    assert code == 0
    assert re.fullmatch(r"m-tiny-[0-9a-f]{8}\n", data)
    assert log == f"would register {data.strip()} for tiny on the weights base: releasable\n"
    assert not (tmp_path / "home").exists()


def test_as_json(files: tuple[str, str]) -> None:
    code, data, _ = register("--schema", files[0], "--prompt", files[1], "--weights", "tuned", "--json")
    told = json.loads(data)
    assert code == 0
    assert told["served_name"] == told["id"]
    assert {**told, "id": "", "served_name": ""} == {
        "id": "",
        "task": "tiny",
        "prompt": "tiny",
        "weights": "tuned",
        "served_name": "",
        "new": True,
        "dry_run": True,
        "state": "releasable",
    }


def test_the_id_follows_from_everything_that_the_version_is(files: tuple[str, str]) -> None:
    tiny = ("--schema", files[0], "--prompt", files[1])
    ids = [
        register(*tiny, *more)[1]
        for more in ((), ("--weights", "tuned"), ("--max-tokens", "99"), ("--budget-tokens", "99"))
    ]
    assert len(set(ids)) == len(ids)
    assert register(*tiny)[1] == ids[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--schema", "nowhere.json", "--prompt", "ticket_routing"),
            r"--schema: nowhere\.json is no file; give a \.json",
        ),
        (
            ("--schema", "ticket_routing", "--prompt", "no.yaml"),
            r"--prompt: no\.yaml is no file; give a \.yaml",
        ),
        (
            ("--schema", "ticket_routing", "--prompt", "support_strong"),
            r"--prompt: shots\[0\]\.answer of support_strong does not fit the schema of ticket_routing \(",
        ),
        (("--schema", ".", "--prompt", "ticket_routing"), r"--schema: \. is no file; give a \.json"),
        ((*ROUTING, "--max-tokens", "0"), r"--max-tokens: 0 is not a number of tokens; give 1 or more"),
        (
            (*ROUTING, "--budget-tokens", "2000"),
            r"--budget-tokens: 2000 of prompt and 160 of answer are more than the 2048 tokens",
        ),
        ((*ROUTING, "--served-name", "x"), r"--served-name: names what the engines of SERVING_ENGINES list"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_exit_code_2(arguments: tuple[str, ...], says: str) -> None:
    code, data, log = register(*arguments)
    assert (code, data) == (2, "")
    assert re.fullmatch(rf"twinrail: .*{says}.*\n", log)


@pytest.mark.parametrize("name", ["", "Routing", "a b", "-x", "x" * 41, "a/b"])
def test_a_name_must_fit_in_an_id(name: str) -> None:
    code, _, log = register(*ROUTING, f"--name={name}")
    assert code == 2
    assert "--name: " in log
    assert "use 1 to 40 lower-case letters" in log


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("{", r"line 1, column 2: not JSON"),
        ('{"type": "array"}', r'a task schema must say "type": "object" at its top'),
        ('{"type": "object"}', r"properties: name at least one field"),
        ('{"type": "object", "properties": {"answer": {"type": "number"}}}', r"properties\.answer: must be"),
        ('{"type": "object", "properties": {"answer": true}}', r"properties\.answer: must be"),
    ],
)
def test_a_bad_schema_is_named_with_its_file(schema: str, says: str, files: tuple[str, str]) -> None:
    Path(files[0]).write_text(schema, encoding="utf-8")
    code, _, log = register("--schema", files[0], "--prompt", files[1])
    assert code == 2
    assert re.fullmatch(rf"twinrail: .*tiny\.json: {says}.*\n", log)


def test_a_prompt_must_leave_room_in_its_budget(files: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "home" / "models" / "base"
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    tiny = ("--schema", files[0], "--prompt", files[1])
    code, _, log = register(*tiny, "--budget-tokens", "20")
    assert code == 2
    assert re.match(r"twinrail: --budget-tokens: tiny alone takes \d+ of 20 tokens; raise the budget", log)
    assert register(*tiny)[0] == 0


def test_weights_are_not_chosen_where_engines_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_ENGINES", "http://127.0.0.1:9/v1")
    code, _, log = register(*ROUTING, "--weights", "base")
    assert code == 2
    assert log.startswith("twinrail: --weights: names weights of this release")


def test_engines_that_do_not_answer_are_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_ENGINES", "http://127.0.0.1:9/v1")
    code, _, log = register(*ROUTING, "--served-name", "acme")
    assert code == 3
    assert log.startswith("twinrail: SERVING_ENGINES: no engine lists a model (http://127.0.0.1:9/v1: ")


def test_without_a_shipped_adapter_the_base_is_known_once_it_is_prepared(tmp_path: Path) -> None:
    folders, none = ModelFolders(tmp_path), tmp_path / "none"
    with pytest.raises(UsageError, match="ships no tuned model"):
        own_weights("tuned", folders, adapter=none)
    with pytest.raises(UsageError, match="run `twinrail up` first"):
        own_weights("base", folders, adapter=none)
    folders.base.mkdir()
    (folders.base / "config.json").write_text("{}", encoding="utf-8")
    (folders.base / "twinrail-base.json").write_text('{"base_digest": "b1"}', encoding="utf-8")
    assert own_weights("base", folders, adapter=none).base_digest == "b1"
