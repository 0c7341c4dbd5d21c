"""Made-up people: what is found, and what must stay because support questions are full of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from serving.errors import UnknownRegionError
from serving.redaction import Redactor

ROOT = Path(__file__).parents[4]
BANK = ROOT.parent / "shared" / "data" / "bank_support" / "queries.jsonl"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("write to ann.lee+shop@mail.example please", "write to [email] please"),
        ("Call me on (206) 453-0293, after six", "Call me on [phone], after six"),
        ("ring +44 20 7946 0958", "ring [phone]"),
        ("my mobile is 0412 555 947", "my mobile is [phone]"),
        ("card 4111 1111 1111 1111 was declined", "card [card number] was declined"),
        ("it is 5500-0055-5555-5559", "it is [card number]"),
        ("refund to DE89 3704 0044 0532 0130 00", "refund to [iban]"),
        ("my SSN 536-90-4399", "my SSN [identity number]"),
        ("passport number X1234567", "passport number [identity number]"),
        ("born on 14 March 1988 in Leeds", "born on [date of birth] in Leeds"),
        ("dob: 02/14/1988", "dob: [date of birth]"),
        ("ship to 221B Baker Street, London now", "ship to [address] now"),
        ("I moved to 12 high street last week", "I moved to [address] last week"),
        ("4521 Colfax Ave, Unit 8D, Denver, CO 80220", "[address]"),
        ("Hauptstra\u00dfe 12a, 10115 Berlin", "[address]"),
        ("my postcode is SW1A 1AA", "my postcode is [address]"),
        ("order number 88213347 never came", "order number [reference] never came"),
        ("invoice INV-2024-00871 is wrong", "invoice [reference] is wrong"),
        ("ticket #4471902?", "ticket #[reference]?"),
        ("where is ORD-1234567", "where is [reference]"),
        ("server 8.8.8.8 cannot reach you", "server [ip address] cannot reach you"),
        ("my password is Hunter-22!", "my password is [secret]!"),
        ("the PIN: 5739 is refused", "the PIN: [secret] is refused"),
        ("I am @ann_lee over there", "I am [handle] over there"),
        ("My name is Ann Lee and Ann cannot sign in", "My name is [name] and [name] cannot sign in"),
        ("my name is ann, hi", "my name is [name], hi"),
        ("This is Joe Marsh from Leeds", "This is [name] from Leeds"),
        ("ask Mrs. Okafor about it", "ask Mrs. [name] about it"),
        ("It is broken.\n\nKind regards,\nJoe Marsh", "It is broken.\n\nKind regards,\n[name]"),
    ],
)
def test_personal_data_becomes_the_name_of_its_kind(text: str, wanted: str) -> None:
    assert Redactor().redact(text).text == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Is it $1,200.50 a year or 14 days free?",
        "error B-20 after update 7.2.1.0, version 10.0.19045.3803",
        "port 21027 and 22067 on 192.168.0.1",
        "I have 2 external drives and 3 way calls",
        "since 1 March 2026 the price is 9 dollars",
        "4000 0000 files, 1234567890123456 bytes",
        "order 66, case 12, policy 2024, account 2 GB",
        "my name is spelled wrong",
        "This is from last week",
        "what is a PIN and is my password case sensitive?",
        "Windows 10 22H2 on a MacBook Pro, iOS 17",
        "123-45-67890 is no number of anybody",
        "Thanks, I will try",
    ],
)
def test_prices_codes_versions_and_dates_stay(text: str) -> None:
    assert Redactor().redact(text).text == text


def test_what_belongs_to_the_company_is_kept() -> None:
    redactor = Redactor(keep=("pellworth.example", "+1 800 253 0000"))
    text = "I wrote to help@pellworth.example and ann@mail.example"
    assert redactor.redact(text).text == "I wrote to help@pellworth.example and [email]"


@pytest.mark.parametrize("region", ["XX", "de", "Germany"])
def test_a_country_that_does_not_exist_is_refused(region: str) -> None:
    with pytest.raises(UnknownRegionError, match=f"{region}: no such country"):
        Redactor(regions=("US", region))


def test_findings_are_counted_by_kind() -> None:
    found = Redactor().redact("a@mail.example, b@mail.example, 4111111111111111")
    assert found.kinds == {"email": 2, "card number": 1}


def test_the_demos_questions_lose_nothing() -> None:
    """Made for the demo, without a person's data but for two signatures."""
    texts = [
        json.loads(line)["text"]
        for file in sorted((ROOT / "deploy" / "demo" / "questions").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    touched = [text for text in texts if Redactor().redact(text).found]
    assert len(touched) <= len(texts) * 0.005, touched


@pytest.mark.skipif(not BANK.exists(), reason="the public sets are not here")
def test_fields_of_invented_customers_are_found() -> None:
    """Scenarios that list name, phone, e-mail, birthday and address of somebody who does not exist."""
    field = re.compile(r"(?:Name|Phone|Email|DOB|Address)\*{0,2}: ([^|\n]+?)\s*(?:\||\n|$)")
    rows = [json.loads(line)["text"] for line in BANK.read_text().splitlines()]
    total, left = 0, []
    for text in rows:
        values = field.findall(text)
        redacted = Redactor(regions=("US", "AU")).redact(text).text
        total += len(values)
        left += [value for value in values if value in redacted]
    assert total > 150
    assert len(left) <= total * 0.02, left
