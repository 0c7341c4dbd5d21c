"""Puts the gateway together from parts that are already open. Opens nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from gateway.access import KeyRing, KeyStore
from gateway.answering import Answering, AnsweringLimits
from gateway.circuits import open_circuits
from gateway.database import Database
from gateway.drafting import Drafter
from gateway.evaluations import EvaluationEvents
from gateway.handover import Handover
from gateway.highlighting import Highlighter
from gateway.hotpath import HotPath, HotPathLimits
from gateway.labels import LabelStore
from gateway.limits import Admission, RateLimit
from gateway.rails import (
    ChatModel,
    EngineRoster,
    KnowledgeRail,
    ModelRail,
    ReplicaRoster,
    Searcher,
    SentenceCheck,
    ToneCheck,
)
from gateway.readiness import readiness_of
from gateway.recorder import TurnRecorder
from gateway.reports import ReportStore
from gateway.reviews import ReviewStore
from gateway.rollouts.live import LiveRails
from gateway.searching import Searching
from gateway.settings import GatewaySettings
from gateway.shadowing import ShadowedSearcher
from gateway.standins import Chain
from gateway.state import GatewayState
from gateway.turns import TurnStore
from retrieval.jobs import JobStore
from retrieval.stored import DocumentStore
from serving.endpoint import Endpoint
from serving.wording import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the gateway is made from."""

    database: Database
    recorder: TurnRecorder
    knowledge: KnowledgeRail
    jobs: JobStore
    documents: DocumentStore
    searcher: Searcher
    #: Embedders that the searcher has at hand: id -> dimensions.
    embedders: Mapping[str, int]
    #: Ids of the rerankers and rewriters that it has.
    rerankers: frozenset[str] = frozenset()
    rewriters: frozenset[str] = frozenset()
    models: ModelRail
    engines: EngineRoster
    replicas: ReplicaRoster
    chat: ChatModel
    #: Somebody else's model, asked when no version of ours gave an answer.
    endpoint: Endpoint | None = None
    #: Finds the sentences for prompts that show sentences.
    highlighter: Highlighter | None = None
    #: Finds the questions that a person has to see.
    handover: Handover | None = None
    check_sentence: SentenceCheck
    #: Whether a sentence's check asks a model.
    slow_checks: bool = False
    check_tone: ToneCheck
    count_tokens: Callable[[str], int]
    wording: Wording
    exposition: Callable[[], bytes]


def build_state(settings: GatewaySettings, parts: Parts) -> GatewayState:
    """The state of a gateway."""
    live = LiveRails(parts.knowledge, parts.models, max_age_s=settings.pointer_max_age_s)
    searcher = ShadowedSearcher(
        parts.searcher, live, share=settings.shadow_share, timeout_s=settings.retrieval_timeout_s
    )
    drafter_of = partial(
        Drafter,
        check_sentence=parts.check_sentence,
        check_tone=parts.check_tone,
        slow_checks=parts.slow_checks,
    )
    keys = KeyRing(KeyStore(parts.database), max_age_s=settings.key_max_age_s, grace_s=settings.key_grace_s)
    answering = Answering(
        live=live,
        searcher=searcher,
        knowledge=parts.knowledge,
        chain=Chain(
            live=live,
            engines=parts.engines,
            drafter=drafter_of(chat=parts.chat),
            endpoint=parts.endpoint,
            endpoint_drafter=drafter_of(chat=parts.endpoint.chat) if parts.endpoint else None,
        ),
        circuits=open_circuits(open_s=settings.circuit_open_s),
        check_sentence=parts.check_sentence,
        slow_checks=parts.slow_checks,
        # The head of a prompt and popular passages come again and again; counting their tokens is not cheap.
        count_tokens=lru_cache(maxsize=2048)(parts.count_tokens),
        wording=parts.wording,
        highlighter=parts.highlighter,
        handover=parts.handover,
        limits=AnsweringLimits(
            retrieval_timeout_s=settings.retrieval_timeout_s,
            first_token_timeout_s=settings.first_token_timeout_s,
            hits=settings.hits,
            history_messages=settings.history_messages,
            clarify=settings.clarify == "on",
        ),
    )
    hotpath = HotPath(
        keys=keys,
        answering=answering,
        searching=Searching(live=live, searcher=searcher, timeout_s=settings.retrieval_timeout_s),
        recorder=parts.recorder,
        admission=Admission(
            running=settings.max_running,
            queued=settings.max_queued,
            queue_timeout_s=settings.queue_timeout_s,
        ),
        rate_limit=RateLimit(per_minute=settings.requests_per_minute, burst=settings.burst),
        limits=HotPathLimits(
            deadline_s=settings.deadline_s,
            body_limit_bytes=settings.body_limit_bytes,
            keepalive_s=settings.keepalive_s,
            capture_content=settings.capture_content,
            review_sample_share=settings.review_sample_share,
        ),
    )
    return GatewayState(
        keys=keys,
        hotpath=hotpath,
        searcher=searcher,
        live=live,
        knowledge=parts.knowledge,
        models=parts.models,
        engines=parts.engines,
        replicas=parts.replicas,
        embedders=parts.embedders,
        rerankers=parts.rerankers,
        rewriters=parts.rewriters,
        jobs=parts.jobs,
        turns=TurnStore(parts.database),
        labels=LabelStore(parts.database),
        reviews=ReviewStore(parts.database, second_share=settings.review_second_share),
        reports=ReportStore(parts.database),
        documents=parts.documents,
        recorder=parts.recorder,
        readiness=readiness_of(
            database=parts.database,
            knowledge=parts.knowledge,
            models=parts.models,
            engines=parts.engines,
            embedders=parts.embedders,
        ),
        evaluations=EvaluationEvents(),
        exposition=parts.exposition,
        body_limit_bytes=settings.body_limit_bytes,
        documents_limit_bytes=settings.documents_limit_bytes,
    )


def estimate_tokens(text: str) -> int:
    """A guess that is rather too high, for the case that no tokenizer is given."""
    return len(text.encode()) // 3 + 1
