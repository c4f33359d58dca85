"""How calls ended, by this pod's journal: what the server may not have heard before the process died."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from proxy.adapters.journal_reader import file_lines, whole_lines
from proxy.adapters.journal_segment import one_chain
from proxy.core.chain import parse_line

_KINDS = (b'"kind":"intent"', b'"kind":"terminal"')  # as the journal writes them: the other lines need not be parsed


def ends_of(directory: Path, calls: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    """Terminal records of these calls, by call. Blocking: it reads from the newest segment back to where they began, which may
    be the whole journal.

    For people and not for replay: segments that are gone are nobody's loss here, and a line that is damaged is left out. Raises
    JournalError for what cannot be read at all.
    """
    ends: dict[str, Mapping[str, Any]] = {}
    sought = set(calls)
    for segment in reversed(one_chain(directory)):
        if not sought:
            break
        begun = set()
        for line in whole_lines(line for line in file_lines([segment.path]) if any(kind in line for kind in _KINDS)):
            record = parse_line(line)
            if record is None or record.get("call") not in sought:
                continue
            if record["kind"] == "terminal":
                ends[record["call"]] = record
            elif record["kind"] == "intent":
                begun.add(record["call"])
        sought -= begun | ends.keys()
    return ends
