"""Do the facts hold? Of a report whose cells were all tried (`run --no-predict`), not a test of pytest: `.ci/run` calls it.

Fails where a cell that was predicted supported fails for that reason, where one that was predicted unsupported works, and where
nothing was shown either way, so that it cannot pass by having nothing to judge.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from builder.report.predictions import lines


def main(path: str) -> int:
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    scored = report["predictions"]
    print("\n".join(lines(scored)))
    left = report["counts"]["unsupported"]
    borne = sum(row["unsupported"]["failed"] for row in scored["rules"])
    held = sum(row["supported"]["held"] for row in scored["rules"])
    wrong = len(scored["refuted"])
    print(f"{held} times held, {borne} times failed as predicted, {wrong} claims refuted, {left} cells left alone")
    return int(bool(wrong or left or not borne or not held))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
