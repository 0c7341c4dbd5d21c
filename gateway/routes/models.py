"""The models, as the OpenAI API lists them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.openai_api import MODEL
from gateway.schemas.models import ModelCard, ModelList
from gateway.state import Caller, State

router = APIRouter(prefix="/v1/models", tags=["openai"])

AnyCaller = Annotated[ApiKey, Depends(Caller(Scope.ASK, Scope.EVAL))]


@router.get("")
async def list_models(key: AnyCaller, state: State) -> ModelList:
    """`twinrail`, which is whatever version a conversation is assigned to; for keys with `eval` each version
    too."""
    versions = await state.models.versions()
    newest = max((int(version.created_at.timestamp()) for version in versions), default=0)
    cards = [ModelCard(id=MODEL, created=newest)]
    if key.allows(Scope.EVAL):
        cards += [
            ModelCard(id=version.id, created=int(version.created_at.timestamp())) for version in versions
        ]
    return ModelList(data=cards)
