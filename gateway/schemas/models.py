"""Bodies of `/v1/models`, as the OpenAI API has them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ModelCard(BaseModel):
    """A model as the OpenAI API lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "twinrail"


class ModelList(BaseModel):
    """Names that the `model` field accepts."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
