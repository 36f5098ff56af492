from pathlib import Path

import pytest

from tadaconv.reporting.schema import schemas

DOCS = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("kind", ["table", "study", "calibration", "benchmark"])
def test_the_documented_schema_is_that_of_what_is_written(kind: str) -> None:
    written = (DOCS / f"{kind}.json").read_text(encoding="utf-8")
    assert written == schemas()[kind], "write it anew: python -m tadaconv.reporting.schema docs/schemas"


def test_every_schema_is_documented_and_every_field_of_a_cell_described() -> None:
    assert {file.stem for file in DOCS.glob("*.json")} == schemas().keys()
    assert all(f"schemas/{kind}.json" in (DOCS.parent / "reports.md").read_text() for kind in schemas())
