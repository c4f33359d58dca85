"""README's reference, written from the code. `python -m tests.reference` writes it anew; a test compares."""

from pathlib import Path

from proxy.core.settings_schema import DESCRIPTIONS
from proxy.errors import MEANINGS
from proxy.telemetry import names

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- reference: begin, written by tests/reference.py -->", "<!-- reference: end -->"


def reference() -> str:
    """The section between the markers."""
    codes = [f"| `{code}` | {m.status} | {m.ran} | {m.retry} | {m.says} |" for code, m in MEANINGS.items()]
    settings = [f"| `{name}` | {text} |" for name, text in DESCRIPTIONS.items()]
    attributes = [f"| `{name}` | {text} |" for name, text in names.ALL_ATTRIBUTES.items()]
    metrics = [f"| `{name}` | {text} |" for name, text in names.ALL_METRICS.items()]
    return "\n".join(
        [
            BEGIN,
            "",
            "**Refusals.** Stable codes: API, audit field and metric label at once. To a model every refusal is a normal tool",
            "result that says what was refused, whether it ran, whether to retry, what to change, whom to ask, and the trace id.",
            "",
            "| Code | HTTP (native) | Ran | Retry | Means |",
            "|---|---|---|---|---|",
            *codes,
            "",
            "**Settings** (`sidegate.yaml`; `SIDEGATE_OPA__DEADLINE=500ms` overrides `opa.deadline`). Unknown keys are refused.",
            "",
            "| Setting | What (default) |",
            "|---|---|",
            *settings,
            "",
            "**Span attributes.** Spans: `execute_tool {tool}` with `decide`, `facts {type}`, `review requested`,",
            "`review resolved`, `tools/call {tool}` and OPA's own below it. What is searched by stands on the first. Configured by",
            "the standard `OTEL_*` variables; nothing is exported unless an OTLP endpoint is set.",
            "",
            "| Attribute | What |",
            "|---|---|",
            *attributes,
            "",
            "**Metrics** (`/metrics` on the probe port).",
            "",
            "| Metric | What |",
            "|---|---|",
            *metrics,
            "",
            END,
        ]
    )


def main() -> None:
    """Write it into README.md."""
    text = README.read_text()
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + reference() + rest.partition(END)[2]
    else:
        text = text.replace("REFERENCE\n", reference() + "\n", 1)
    README.write_text(text)


if __name__ == "__main__":
    main()
