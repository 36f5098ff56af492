"""The schemas of ``report.json``: ``python -m tadaconv.reporting.schema docs/schemas`` writes them again."""

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from tadaconv.files import write_atomically
from tadaconv.reporting.ablation.data import Manifest


def schemas() -> dict[str, str]:
    """By kind of report, the JSON schema of its ``report.json``, as text."""
    from tadaconv.reporting.benchmark.data import BenchmarkManifest
    from tadaconv.reporting.calibration.data import CalibrationManifest
    from tadaconv.reporting.study.data import StudyManifest

    manifests: dict[str, type[BaseModel]] = {
        "table": Manifest,
        "study": StudyManifest,
        "calibration": CalibrationManifest,
        "benchmark": BenchmarkManifest,
    }
    return {
        kind: json.dumps(manifest.model_json_schema(), indent=1, sort_keys=True) + "\n"
        for kind, manifest in manifests.items()
    }


if __name__ == "__main__":
    for kind, schema in schemas().items():
        write_atomically(Path(sys.argv[1]) / f"{kind}.json", schema)
