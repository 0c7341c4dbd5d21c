"""Has engines show whose weights they answer with under a version's name; keeps what the weights gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from serving import instruments
from serving.adapters import ListedModel, look_at
from serving.errors import EngineError, EngineUnavailableError
from serving.probing import ProbeResult, Reading, judge_adapter, judge_base, judge_merged, read_probes
from serving.replicas import Fleet, Holding, HoldingState, Replica, ReplicaStore
from serving.versions import RegisteredVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a probe of one engine showed."""

    url: str
    result: ProbeResult


class Prober:
    """Probes engines; the session and the store belong to the caller."""

    def __init__(
        self,
        store: ReplicaStore,
        session: aiohttp.ClientSession,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._store = store
        self._session = session
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s

    async def probe_all(self, version: RegisteredVersion, fleet: Fleet) -> list[Probed]:
        """Probe every live engine that lists the version now, and keep each result: one that fails takes the
        version's traffic away from that engine."""
        found = []
        for replica in fleet.replicas:
            if not replica.is_live:
                continue
            try:
                look = await look_at(self._session, replica.url, headers=self._headers)
                models = {model.name: model for model in look.models}
                if version.served_name not in models:
                    continue
                result = await self.probe(replica, version, models[version.served_name])
            except EngineError as exc:
                found.append(
                    Probed(url=replica.url, result=ProbeResult(passed=False, reason=str(exc), evidence={}))
                )
                continue
            await self._store.hold(
                Holding(
                    url=replica.url,
                    version=version.id,
                    state=HoldingState.PROBED if result.passed else HoldingState.FAILED,
                    reason=result.reason,
                    life=replica.life or "",
                    evidence=result.evidence,
                )
            )
            found.append(Probed(url=replica.url, result=result))
        return found

    async def probe(self, replica: Replica, version: RegisteredVersion, model: ListedModel) -> ProbeResult:
        """One engine; raises EngineError when it does not answer."""
        definition, digest = version.version, version.version.adapter_digest
        references = await self._store.references(definition.base_digest, build=replica.build)
        base: Reading | None = None
        if digest is None:
            reading, form = await self._read_base(replica, model.name), "base"
            result = judge_base(reading)
        elif model.parent is not None:
            # The base before and after: what it differs by is the noise of the moment.
            base = await self._read(replica, model.parent)
            reading, form = await self._read(replica, model.name), "adapter"
            again = await self._read(replica, model.parent)
            result = judge_adapter(
                reading, base=base, base_again=again, adapter_digest=digest, references=references
            )
        else:
            reading, form = await self._read(replica, model.name), "merged"
            result = judge_merged(reading, adapter_digest=digest, references=references)
        instruments.probes.add(
            1, {instruments.MODEL_VERSION: version.id, instruments.PASSED: str(result.passed).lower()}
        )
        if result.passed and version.served_name == version.id:
            await self._keep(replica, version, form, digest, reading)
            if base is not None:
                await self._keep(replica, version, "base", None, base)
        return result

    async def _read_base(self, replica: Replica, name: str) -> Reading:
        """A model without an adapter only has to answer: a server of another make that fails at
        log-probabilities, instead of refusing them, is asked without."""
        try:
            return await self._read(replica, name)
        except EngineUnavailableError:
            return await read_probes(
                self._session,
                replica.url,
                name,
                headers=self._headers,
                timeout_s=self._timeout_s,
                likeliest=False,
            )

    async def _read(self, replica: Replica, name: str) -> Reading:
        return await read_probes(
            self._session, replica.url, name, headers=self._headers, timeout_s=self._timeout_s
        )

    async def _keep(
        self,
        replica: Replica,
        version: RegisteredVersion,
        form: str,
        adapter_digest: str | None,
        reading: Reading,
    ) -> None:
        if reading.has_evidence:
            await self._store.keep_reference(
                version.version.base_digest,
                adapter_digest=adapter_digest,
                form=form,
                build=replica.build,
                places=reading.places,
                seen_on=replica.url,
            )
