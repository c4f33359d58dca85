"""The table of dialects, and which one a body is in."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy.core import strict_json
from proxy.errors import Code, Refusal
from proxy.model import Answer, Dialect
from proxy.wire import anthropic, common, native, openai_chat, openai_responses
from proxy.wire.batch import Batch, Definition


class Wire(Protocol):
    """What one dialect's module offers."""

    DIALECT: Dialect

    def parse(self, tree: Any) -> Batch | None: ...

    def render(self, answers: Sequence[Answer], batch: Batch) -> bytes: ...

    def definitions(self, tools: Sequence[Definition]) -> bytes: ...


DIALECTS: Mapping[Dialect, Wire] = {
    module.DIALECT: module for module in (native, openai_chat, openai_responses, anthropic)
}


def named(name: str) -> Wire:
    """The dialect that `?dialect=` names. Raises Refusal invalid_call."""
    try:
        return DIALECTS[Dialect(name)]
    except ValueError:
        raise Refusal(Code.INVALID_CALL, "unknown dialect", fix=f"use one of {', '.join(sorted(DIALECTS))}") from None


def parse(body: bytes, forced: str | None = None) -> Batch:
    """Read a request body. The shape tells the dialect unless `forced` names it. Raises Refusal invalid_json, invalid_call."""
    candidates = [named(forced)] if forced else list(DIALECTS.values())
    tree = strict_json.read_tree(body)
    _refuse_masses(tree)
    batches = [batch for batch in (wire.parse(tree) for wire in candidates) if batch is not None]
    if len(batches) != 1:
        what = "no known shape" if not batches else "the shape of two dialects"
        raise common.invalid_call(f"the body has {what}")
    batch = batches[0]
    if len(batch.items) > common.MAX_CALLS:
        raise common.invalid_call(f"more than {common.MAX_CALLS} calls in one body")
    return Batch(dialect=batch.dialect, items=common.refuse_repeated_ids(batch.items), many=batch.many)


def _refuse_masses(tree: Any) -> None:
    """Before any item is looked at: a small body can hold very many, and reading one costs a hundred times its bytes."""
    lists = tree.values() if isinstance(tree, dict) else (tree,)
    if any(len(items) > common.MAX_ITEMS for items in lists if isinstance(items, list)):
        raise common.invalid_call(
            f"more than {common.MAX_ITEMS} items in one body, of which {common.MAX_CALLS} may be calls"
        )
