"""The closed JSON Schema of the settings file."""

from collections.abc import Mapping
from typing import Any

_DURATION = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}
_PATH = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 1}


def _closed(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "required": list(required),
    }


_ADDRESS = {"type": "string", "pattern": r"^(unix:.+|.*:[0-9]{1,5})$"}
_LISTEN = {
    "anyOf": [
        _ADDRESS,
        _closed(
            {"listen": _ADDRESS, "tls": _closed({"certificate": _PATH, "key": _PATH}, "certificate", "key")}, "listen"
        ),
    ]
}
_ISSUER = _closed(
    {
        "issuer": _PATH,
        "audience": _PATH,
        "jwks_url": {"type": "string", "pattern": "^https?://"},
        "jwks_file": _PATH,
        "algorithms": {
            "type": "array",
            "minItems": 1,
            "items": {
                "enum": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
            },
        },
        "claims": _closed(
            {
                "roles": _PATH,
                "tenant": _PATH,
                "name": _PATH,
                "attributes": {
                    "type": "object",
                    "propertyNames": {"pattern": "^[A-Za-z0-9_.-]{1,64}$"},
                    "additionalProperties": _PATH,
                },
            }
        ),
    },
    "issuer",
    "audience",
)
_TOKENS = _closed({"file": _PATH, "issuers": {"type": "array", "items": _ISSUER}})
_VALKEY = _closed(
    {
        "url": {"type": "string", "pattern": "^((redis|rediss)://[^@/]+(/[0-9]{1,3})?/?|unix:/[^@]+)$"},
        "ca_file": _PATH,
        "username": _PATH,
        "password_file": _PATH,
        "prefix": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "deadline": _DURATION,
        "mac_key_file": _PATH,
        "appendfsync": {"enum": ["checked", "stated"]},
    },
    "url",
    "mac_key_file",
)
_LIMITS = (
    "body_bytes",
    "in_flight",
    "holds_per_conversation",
    "holds_per_principal",
    "holds_per_agent",
    "holds",
    "new_holds_per_hour",
    "rejections",
    "conversations_in_memory",
    "state_bytes",
)

SCHEMA: Mapping[str, Any] = _closed(
    {
        "state": _PATH,
        "catalog": _PATH,
        "policy": _PATH,
        "policy_folders": {"type": "array", "items": _PATH},
        "bundle": _closed(
            {
                "platform": _PATH,
                "teams": {
                    "type": "object",
                    "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$", "not": {"const": "platform"}},
                    "additionalProperties": _PATH,
                },
                "key": _PATH,
                "credential": _PATH,
                "every": _DURATION,
            },
            "platform",
        ),
        "agent_port": _LISTEN,
        "review_port": _LISTEN,
        "probe_port": _LISTEN,
        "opa": _closed(
            {
                "mode": {"enum": ["supervised", "external"]},
                "binary": _PATH,
                "address": {"type": "string", "pattern": "^(unix:|http://)"},
                "bundle": _PATH,
                "deadline": _DURATION,
            }
        ),
        "tokens": _TOKENS,
        "reviewers": _TOKENS,
        "registration": {"enum": ["claimed", "attested"]},
        "attestation": _PATH,
        "conversation_ttl": _DURATION,
        "credentials": {
            "type": "object",
            "additionalProperties": {
                "oneOf": [
                    _closed({"bearer_file": _PATH}, "bearer_file"),
                    _closed(
                        {"header_file": _PATH, "header": {"type": "string", "pattern": "^[A-Za-z0-9-]+$"}},
                        "header_file",
                        "header",
                    ),
                    _closed({"basic_file": _PATH}, "basic_file"),
                    _closed({"env": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"}}, "env"),
                ]
            },
        },
        "patience": _DURATION,
        "review_ttl": _DURATION,
        "drain": _DURATION,
        "limits": _closed(dict.fromkeys(_LIMITS, _COUNT)),
        "agent": _closed({name: {"type": "string"} for name in ("namespace", "service_account", "pod", "spiffe_id")}),
        "audit_copy": {"type": "boolean"},
        "store": _closed({"valkey": _VALKEY}, "valkey"),
    },
    "state",
    "catalog",
)

DESCRIPTIONS: Mapping[str, str] = {
    "state": "directory for journal, checkpoint, key and OPA's socket; on a disk that outlives the process",
    "catalog": "directory of catalog files",
    "policy": "policy.yaml",
    "policy_folders": "directories of your own Rego policies, one folder a policy",
    "bundle": (
        "instead of both: policy built and signed elsewhere (`sidegate policy build`). `platform`: its bundle, a file, an "
        "https URL or `oci://REGISTRY/REPOSITORY:TAG` (or `@sha256:...`); `teams`: theirs, by policy name; `key`: the public "
        "key (PEM) that signed them, needed for URLs; `credential`, `every` (60s): how URLs are asked"
    ),
    "agent_port": "where agents call: `host:port` or `unix:PATH` (127.0.0.1:8900)",
    "review_port": (
        "where reviewers and operators call (127.0.0.1:8902); beyond loopback `listen` with `tls`: `certificate`, `key`"
    ),
    "probe_port": "`/healthz/live`, `/healthz/ready`, `/metrics` (0.0.0.0:8901)",
    "opa": (
        "`mode`: supervised (ours, on a private socket) or external; `binary`; `address` and `bundle` "
        "(the file it reads) where external; `deadline` (250ms)"
    ),
    "tokens": (
        "users' tokens: `file` of hashed opaque ones, `issuers` of JWTs (`issuer`, `audience`, "
        "`jwks_url` or `jwks_file`, `algorithms`, `claims`: where `roles`, `tenant`, `name` and, by name, `attributes` "
        "stand: `attributes: {domain: hd}`)"
    ),
    "reviewers": "reviewers' tokens, the same form; never accepted on the agent port",
    "registration": (
        "`claimed`: application and agent are one; `attested`: text counts only with a signature by an application key"
    ),
    "attestation": "JWKS file of the application's keys, where attested",
    "conversation_ttl": "how long a registration lasts whose token has no end (12h)",
    "credentials": "what upstreams are shown: `bearer_file`, `basic_file`, `header_file` with `header`, or `env`",
    "patience": "how long a held call waits for its reviewer before the caller is told that it is pending (4s)",
    "review_ttl": "how long a review stays open (15m)",
    "drain": "how long calls under way may take after SIGTERM (10s)",
    "limits": (
        "`body_bytes`, `in_flight`, `holds_per_conversation`, `holds_per_principal`, `holds_per_agent`, "
        "`holds`, `new_holds_per_hour` (of a conversation; a principal has 4 times, an agent 20 times as many), "
        "`rejections` (after so many a conversation's reviews are denials), `conversations_in_memory`, `state_bytes` (what "
        "`state` may take where the disk does not say: nine tenths of an emptyDir's sizeLimit; none)"
    ),
    "agent": "the workload, from the platform: `namespace`, `service_account`, `pod`, `spiffe_id`",
    "audit_copy": "copy the journal to standard output, too",
    "store": (
        "where state is kept: absent, in `state`, for one pod; `valkey`, for many pods: `url` (redis://, rediss:// or "
        "unix:), `ca_file`, `username`, `password_file`, `prefix` (sidegate), `deadline` (250ms), `mac_key_file` (the same "
        "32 or more random bytes in all pods), `appendfsync`: `checked`, or `stated` where CONFIG GET is not allowed"
    ),
}
