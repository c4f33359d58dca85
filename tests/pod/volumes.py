"""Volumes of a pod as a kubelet makes them: empty ones, and ConfigMaps and Secrets whose content is swapped by one symlink."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.pod.manifest import Facts, Tree, downward

Content = dict[str, bytes]
_turn = count()


class MissingError(Exception):
    """A volume needs an object that is not there: the pod stays in ContainerCreating."""


@dataclass(slots=True, kw_only=True)
class Volumes:
    """All volumes of one pod below `folder`. `configs`, `secrets`: name -> {key: content}; `tokens`: audience -> token."""

    folder: Path
    pod: Tree
    facts: Facts
    configs: dict[str, Content] = field(default_factory=dict)
    secrets: dict[str, Content] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def make(self) -> None:
        """Every volume. Raises MissingError."""
        for volume in self.pod["spec"].get("volumes", []):
            place = self.folder / volume["name"]
            place.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                place.chmod(0o777)
                if self._group is not None:
                    shutil.chown(place, group=self._group)
                    place.chmod(0o2777)
            elif "hostPath" in volume:
                msg = f"{volume['name']}: hostPath is not allowed at the level `restricted`"
                raise AssertionError(msg)
            else:
                self._swap(place, self._content(volume), self._mode(volume))

    def sync(self, name: str = "") -> None:
        """What a kubelet does within a minute of a change: every projected volume (or one) gets the present content."""
        for volume in self.pod["spec"].get("volumes", []):
            if "emptyDir" not in volume and name in {"", volume["name"]}:
                self._swap(self.folder / volume["name"], self._content(volume), self._mode(volume))

    @property
    def _group(self) -> int | None:
        group: int | None = self.pod["spec"].get("securityContext", {}).get("fsGroup")
        return group

    def _mode(self, volume: Tree) -> int:
        kind = next(volume[kind] for kind in ("configMap", "secret", "projected", "downwardAPI") if kind in volume)
        mode: int = kind.get("defaultMode", 0o644)
        return mode if self._group is None else mode | 0o440

    def _content(self, volume: Tree) -> Content:
        if "projected" in volume:
            return {k: v for source in volume["projected"]["sources"] for k, v in self._source(source).items()}
        return self._source(volume)

    def _source(self, source: Tree) -> Content:
        if "configMap" in source:
            wanted = source["configMap"]
            return _picked(self.configs.get(wanted["name"]), wanted, f"configmap {wanted['name']}")
        if "secret" in source:
            wanted = source["secret"]
            name = wanted.get("secretName") or wanted["name"]
            return _picked(self.secrets.get(name), wanted, f"secret {name}")
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            return {wanted["path"]: self.tokens[wanted.get("audience", "")].encode()}
        items = source["downwardAPI"]["items"]
        return {item["path"]: downward(item["fieldRef"]["fieldPath"], self.pod, self.facts).encode() for item in items}

    def _swap(self, place: Path, content: Content, mode: int) -> None:
        """As the kubelet's atomic writer: a new folder, then one rename of `..data`; names that went are taken away after."""
        fresh = place / f"..2026_11_25_08_30_00.{next(_turn):09}"
        for name, text in content.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
            file.chmod(mode)
            if self._group is not None:
                shutil.chown(file, group=self._group)
        fresh.mkdir(exist_ok=True)
        before = (place / "..data").resolve() if (place / "..data").is_symlink() else None
        (place / "..data_tmp").symlink_to(fresh.name)
        (place / "..data_tmp").rename(place / "..data")
        tops = {name.split("/")[0] for name in content}
        for name in tops:
            if not (place / name).is_symlink():
                (place / name).symlink_to(f"..data/{name}")
        for old in [path for path in place.iterdir() if not path.name.startswith("..") and path.name not in tops]:
            old.unlink()
        if before is not None:
            shutil.rmtree(before)


def _picked(found: Mapping[str, bytes] | None, wanted: Mapping[str, Any], what: str) -> Content:
    if found is None:
        if wanted.get("optional"):
            return {}
        raise MissingError(f"{what} not found")
    if "items" not in wanted:
        return dict(found)
    return {item["path"]: found[item["key"]] for item in wanted["items"]}
