"""The cell keys of every shipped table in the regimes that shipped with it: results that were stored are found by them.

Whoever makes this fail changes what earlier results are found under. Leave a new field out of the canonical JSON at the
value that means what was there before it.
"""

import hashlib
from pathlib import Path

import pytest

from tadaconv.regime import Regime, load_regime
from tadaconv.spec import Folder
from tadaconv.table import load_table

FINGERPRINT, NUM_CLASSES = "0123456789abcdef", 5


def regime_on_clips(name: str) -> Regime:
    """A shipped regime; the one for folders as if ``--data`` had been given."""
    regime = load_regime(name)
    if isinstance(regime.data, Folder):
        return regime.but(data__root="/clips", data__fingerprint=FINGERPRINT, data__num_classes=NUM_CLASSES)
    return regime


def keys_of(table: str, regime: str) -> list[str]:
    return [cell.experiment.key for cell in load_table(table).table.cells(regime_on_clips(regime), [0])]


GOLDEN: dict[str, tuple[str, ...]] = {
    "aggregation": ("79f2bd8c3725", "7293a659be0a", "ac1b18430f99", "770b4134b774", "1485197ce374"),
    "calibration_dimension": ("8520804fd304", "4e565f6e612a", "1bbd1e0016e0", "82d13ce0fbc4", "34017a86623b"),
    "context": ("324743f3596c", "992a64dc1d01", "9d2ca56595ae", "1cf76870d770", "2239951f8d16"),
    "initialization": ("a06bcd915830", "dd47b51f7fbb", "e9c2f4b86a84", "11c522392539", "459650ec18d5"),
    "k400": ("0ef2b7ded47d", "707707286c97", "d79413fd9045", "3815b73c30f1", "aaf6397b1f93"),
    "placement": ("0ad3565971b0", "1cc26b7b2579", "e456e5f8e540", "89dddef444ed", "9a4628578d7d"),
    "plug_in": ("95a99ddab13b", "7f603e4229b5", "b6234ece4647", "648b3f2943d3", "b71eb3b69d6c"),
    "rivals": ("8c6786637406", "4d77bb18a3b2", "12898e2f94e0", "da17e9b9a7be", "149d17f558ab"),
    "ssv2": ("acbcb5acac12", "f825d4753be5", "0e7734f9c9d8", "a7172b93036f", "b85f55a9a0ac"),
}


@pytest.mark.parametrize("table", GOLDEN)
def test_keys_of_a_table_are_those_it_had(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # only what ships
    digests = []
    for regime in ("quick_1", "proxy_1", "folder", "quick", "proxy"):
        keys = sorted(keys_of(table, regime))
        digests.append(hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12])
    assert tuple(digests) == GOLDEN[table]


def test_three_keys_are_what_they_were() -> None:
    first = {regime: keys_of("context", regime)[0] for regime in ("quick_1", "proxy_1", "folder")}
    assert first == {"quick_1": "d181a9cab166d249", "proxy_1": "2597b9c0a8f24688", "folder": "b85aa82d2581e4ac"}
