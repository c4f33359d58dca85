"""Proof that a bundle does what its authors mean: samples, Rego tests and the absence sweep, all on the real OPA."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from proxy.adapters import opa_cli
from proxy.adapters.archive import pack
from proxy.adapters.bundle import Assembled, BundleError, Sources, assemble
from proxy.adapters.rego_tests import RegoTests, run_tests
from proxy.core.absence import Mutant, Pardon, more_lenient, mutants
from proxy.core.layers import DATA
from proxy.core.samples import EFFECTS, Sample, SampleError, read_pardons, read_samples, unlike

_URL = "http://opa/v1/data/sidegate/"
_STRICT = "decision/{}?strict-builtin-errors=true"
_MANY = "proof/effects"
_PROOF = b"""package sidegate.proof

import rego.v2

effects := [_effect(document) | some document in input.documents]

_effect(document) := effect if {
	effect := data.sidegate.decision.decision.effect with input as document
} else := "refused"
"""
_AT_ONCE = 8
_Collected = tuple[list[Sample], dict[str, list[Pardon]]]
_Name = tuple[str, str, str]  # of a sample: policy, effect, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was tried. A proof that failed is a BundleError instead."""

    samples: int
    mutants: int
    tests: RegoTests


async def prove(opa: Path, sources: Sources, assembled: Assembled) -> Proof:
    """Samples evaluate as named, no mutant is more lenient, Rego tests pass. Raises BundleError with all problems.

    Samples of own policies run on the settings of the bundle, those on trial as if enforced, and are swept. Those of the
    shipped policies run on the settings that they mean, to prove them on this OPA; their sweep is a test of ours.
    """
    (shipped, _), (own, pardons) = await asyncio.to_thread(collect, sources, assembled)
    model = await sample_bundle(opa, sources)
    async with serving(opa, model.files) as ask:
        problems = list((await run_samples(ask, shipped)).values())
    async with serving(opa, enforced(sources, assembled)) as ask:
        failed = await run_samples(ask, own)
        problems += failed.values()
        tried, lenient = await run_sweep(ask, own, pardons, failed=failed)
    tests = await run_tests(opa, sources, assembled)
    problems += [*lenient, *tests.failed]
    if problems:
        raise BundleError(problems)
    return Proof(samples=len(shipped) + len(own), mutants=tried, tests=tests)


def enforced(sources: Sources, assembled: Assembled) -> dict[str, bytes]:
    """The bundle's files with every own policy enforced: on trial it has no say, and none of its samples could fail.

    Policies that are delivered apart are left out: listed and not loaded, they deny everything."""
    settings = assembled.settings
    settings["policies"] = {name: mode for name, mode in settings["policies"].items() if name in assembled.folders}
    own = (name for name, folder in assembled.folders.items() if not folder.is_relative_to(sources.shipped))
    settings["policies"] |= dict.fromkeys(own, "enforce")
    return {**assembled.files, DATA: orjson.dumps(settings)}


async def sample_bundle(opa: Path, sources: Sources) -> Assembled:
    """The shipped policies with the settings that their samples mean (rego/samples/policy.yaml)."""
    document = yaml.safe_load((sources.shipped / "samples" / "policy.yaml").read_bytes())
    return await assemble(opa, Sources(shipped=sources.shipped), document, catalog_revision="samples")


class Ask:
    """Asks one running OPA for decisions; an answer that is not 200 comes back as text, which is a refusal."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, document: Any, path: str = "decision") -> Any:
        """The decision about one input, or what another entry point of the composer says."""
        return await self._ask(document, _STRICT.format(path))

    async def effects(self, documents: Sequence[Mapping[str, Any]]) -> Any:
        """The effects of many inputs in one question; an error of a built-in function only makes its rule undefined."""
        return await self._ask({"documents": documents}, _MANY)

    async def _ask(self, document: Any, path: str) -> Any:
        async with self._free, self._session.post(_URL + path, data=orjson.dumps({"input": document})) as answer:
            body = await answer.read()
            if answer.status != 200:
                return body.decode("utf-8", "replace")
            return orjson.loads(body).get("result", "no result")


@contextlib.asynccontextmanager
async def serving(opa: Path, files: Mapping[str, bytes]) -> AsyncIterator[Ask]:
    """A private OPA with a bundle of these members. Raises OpaFailedError if it does not serve them."""
    with tempfile.TemporaryDirectory(prefix="sidegate-proof-") as name:
        work = Path(name)
        (work / "bundle.tar.gz").write_bytes(pack({**files, "sidegate/proof/proof.rego": _PROOF}))
        socket = work / "opa.sock"
        options = ("--bundle", "bundle.tar.gz", "--addr", f"unix://{socket}", "--log-level", "error")
        process = await asyncio.create_subprocess_exec(
            opa, "run", "--server", *options, cwd=work, env=opa_cli.NOTHING, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
                await _answering(session, process)
                yield Ask(session)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def run_samples(ask: Ask, samples: Sequence[Sample]) -> dict[_Name, str]:
    """Samples that do not evaluate as named, with a sentence each."""
    decisions = await asyncio.gather(*(ask(sample.document) for sample in samples))
    differing = ((sample, unlike(sample, decision)) for sample, decision in zip(samples, decisions, strict=True))
    return {_name(sample): f"{sample.policy}: {sample.name}: {said}" for sample, said in differing if said is not None}


async def run_sweep(
    ask: Ask,
    samples: Sequence[Sample],
    pardons: Mapping[str, Sequence[Pardon]],
    *,
    failed: Collection[_Name] = (),
) -> tuple[int, list[str]]:
    """How many mutants of denied and held samples were tried, and those more lenient without a pardon, and idle pardons.

    A sample that `failed` is not swept: nearly every mutant of it fails, too, and its pardons cannot be told idle.
    """
    strict = [sample for sample in samples if sample.effect != "allow" and _name(sample) not in failed]
    changed = [list(mutants(sample.document)) for sample in strict]
    found = await asyncio.gather(*(_lenient(ask, *pair) for pair in zip(strict, changed, strict=True)))
    problems = []
    used: set[tuple[str, Pardon]] = set()
    for sample, lenient in zip(strict, found, strict=True):
        for mutant, effect in lenient:
            pardon = _pardon(sample, mutant, pardons)
            if pardon is None:
                problems.append(f"{sample.policy}: {sample.name}: {mutant.kind} {mutant.path}: {effect}")
            else:
                used.add((sample.policy, pardon))
    unswept = {(policy, name) for policy, effect, known in failed if effect != "allow" for name in (known, "*")}
    idle = [
        (policy, pardon)
        for policy, listed in pardons.items()
        for pardon in listed
        if (policy, pardon) not in used and (policy, pardon.sample) not in unswept
    ]
    return sum(map(len, changed)), problems + [
        f"{policy}: {pardon.sample}: nothing to pardon at {pardon.path}" for policy, pardon in idle
    ]


async def _lenient(ask: Ask, sample: Sample, changed: Sequence[Mutant]) -> list[tuple[Mutant, str]]:
    """Mutants that are more lenient than their sample, with their effect.

    All go to OPA at once. There an error of a built-in function cannot be strict, since it would end them all, and what it loses
    can only look too lenient; so those that do are asked again as the proxy asks.
    """
    effects = await ask.effects([mutant.document for mutant in changed])
    suspects = changed
    if isinstance(effects, list):
        suspects = [m for m, effect in zip(changed, effects, strict=True) if more_lenient(effect, sample.effect)]
    said = [_effect(decision) for decision in await asyncio.gather(*(ask(mutant.document) for mutant in suspects))]
    return [(m, effect) for m, effect in zip(suspects, said, strict=True) if more_lenient(effect, sample.effect)]


def collect(sources: Sources, assembled: Assembled) -> tuple[_Collected, _Collected]:
    """Samples and pardons of the shipped and of the own policies. Raises BundleError with every file that is amiss."""
    base = orjson.loads((sources.shipped / "samples" / "input.json").read_bytes())
    schema = orjson.loads((sources.schemas / "input.json").read_bytes())
    shipped: _Collected = ([], {})
    own: _Collected = ([], {})
    problems: list[str] = []
    for name, folder in assembled.folders.items():
        samples, pardons = shipped if folder.is_relative_to(sources.shipped) else own
        if not any(folder.glob("*_test.rego")):
            problems.append(f"{folder}: no test ({name}_test.rego)")
        read, amiss = _samples(name, folder, base, schema)
        samples += read
        problems += amiss
        file = folder / "samples" / "pardons.json"
        try:
            pardons[name] = read_pardons(orjson.loads(file.read_bytes())) if file.exists() else []
        except (orjson.JSONDecodeError, SampleError) as error:
            problems.append(f"{file}: {error}")
    if problems:
        raise BundleError(problems)
    return shipped, own


def _samples(
    policy: str, folder: Path, base: Mapping[str, Any], schema: Mapping[str, Any]
) -> tuple[list[Sample], list[str]]:
    """Samples of one policy, at least one in whichever file, and what is amiss."""
    files = {folder / "samples" / f"{stem}.json": effect for stem, effect in EFFECTS.items()}
    missing = [f"samples/{file.name}" for file in files if not file.exists()]
    problems = [f"{folder}: needs {', '.join(missing)} (rego/README.md)"] if missing else []
    samples: list[Sample] = []
    for file, effect in files.items():
        try:
            samples += (
                read_samples(policy, effect, orjson.loads(file.read_bytes()), base, schema) if file.exists() else []
            )
        except (OSError, orjson.JSONDecodeError, SampleError) as error:
            problems.append(f"{file}: {error}")
    if not samples and not problems:
        problems.append(f"{folder / 'samples'}: a policy needs one sample at least")
    return samples, problems


def _name(sample: Sample) -> _Name:
    return sample.policy, sample.effect, sample.name


def _pardon(sample: Sample, mutant: Mutant, pardons: Mapping[str, Sequence[Pardon]]) -> Pardon | None:
    return next((pardon for pardon in pardons[sample.policy] if pardon.covers(sample.name, mutant)), None)


def _effect(decision: Any) -> str:
    return str(decision.get("effect")) if isinstance(decision, Mapping) else "refused"


async def _answering(session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    """Wait for OPA, at most ten seconds. Raises OpaFailedError."""
    for _ in range(500):
        if await _healthy(session):
            return
        if process.returncode is not None:
            break
        await asyncio.sleep(0.02)
    raise opa_cli.OpaFailedError("OPA does not serve the bundle")


async def _healthy(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("http://opa/health?bundles") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False
