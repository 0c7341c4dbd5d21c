"""Where tests keep prepared models between runs: converting them takes longer than most tests."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Laid out as `deploy.models.ModelFolders` says.
MODELS = Path(os.environ.get("TWINRAIL_TEST_MODELS") or ROOT / ".twinrail" / "models")
