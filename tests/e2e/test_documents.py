"""Every example of the pages does what its page says, against the stack as `twinrail up` starts it.

Examples with a mark `<!-- run by ... -->` belong to the test that it names; how an example has to be written
stands in CONTRIBUTING.md.
"""

from __future__ import annotations

import re

import pytest

from deploy.home import Home
from tests.e2e.conftest import Stack, environment
from tests.e2e.reader import Reader
from tests.unit.docs.pages import Block, pages, runnable

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("block", [each for each in runnable() if each.run_by is None], ids=str)
def test_example(block: Block, stack: Stack) -> None:
    reader = Reader(
        url=stack.url, environment=environment(stack.home, stack.port), keys=Home(stack.home).keys()
    )
    complaint = reader.complaint(block)
    assert complaint is None, complaint


def test_the_knowledge_version_that_the_pages_show_is_the_one_of_a_new_rail(stack: Stack) -> None:
    (stable,) = (
        rail["stable"]
        for rail in stack.twinrail("rails", "--json").json["rails"]
        if rail["rail"] == "knowledge"
    )
    shown = {found for each in pages() for line in each.lines for found in re.findall(r"k-start-\w+", line)}
    assert shown == {stable}
