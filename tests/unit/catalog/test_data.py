"""A data file of the catalogue that is wrong is named, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.catalog import data
from freehold.catalog.gpus import GpuModel
from freehold.errors import FreeholdError


@pytest.mark.parametrize(
    "text", ["rtx-1: [", "- rtx-1", "rtx-1: 24", "rtx-1: {title: RTX 1, vendor: nvidia}"]
)
def test_a_data_file_that_is_wrong_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gpus.yml"
    path.write_text(text)
    with pytest.raises(FreeholdError) as caught:
        data.entries(path, GpuModel, "id")
    assert caught.value.where == str(path)
