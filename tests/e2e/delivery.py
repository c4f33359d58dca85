"""Policy built elsewhere, for a rig: bundles of its policy, and a mount that is swapped as Kubernetes swaps a ConfigMap's."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proxy.adapters.archive import pack
from proxy.adapters.bundle_signature import sign
from proxy.adapters.workshop import Workshop
from proxy.core.layers import team_members
from proxy.settings import read
from tests.adapters.team import TEAM
from tests.contracts.opa_server import opa_binary
from tests.e2e.rig import Rig


@dataclass(slots=True)
class Mount:
    """A ConfigMap's mount: links to `..data`, which links to the version's folder."""

    path: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def swap(self, files: Mapping[str, bytes]) -> None:
        """Another version, in one step. A file that it does not have is gone."""
        version = self.path / f"..{next(self._numbers)}"
        version.mkdir(parents=True)
        for name, content in files.items():
            (version / name).write_bytes(content)
        (self.path / "..new").symlink_to(version.name)
        (self.path / "..new").replace(self.path / "..data")
        for link in self.path.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")


async def members(rig: Rig, **policy: Any) -> dict[str, bytes]:
    """The members of a bundle of the rig's policy, changed."""
    rig.write()
    build = rig.folder / "build"
    build.mkdir(exist_ok=True)
    (build / "policy.yaml").write_text(yaml.safe_dump({**rig.policy, **policy}, sort_keys=False))
    settings = {key: value for key, value in rig.settings.items() if key != "bundle"}
    settings |= {"policy": "build/policy.yaml", "opa": {"binary": str(opa_binary())}}
    (rig.folder / "build.yaml").write_text(yaml.safe_dump(settings))
    workshop = Workshop(read(rig.folder / "build.yaml", {}))
    teams = frozenset(policy.get("policies", {})) & {"team"}
    return dict((await workshop.assembled(workshop.catalog(), teams)).files)


async def signed(made: Mapping[str, bytes], key: Path) -> bytes:
    """A signed bundle of these members."""
    return pack(await sign(opa_binary(), made, key))


def team(rego: str = TEAM) -> dict[str, bytes]:
    """A team's layer."""
    return team_members("team", {"sidegate/policies/team/team.rego": rego.encode()})[1]
