"""Findings as plain data and back."""

import json

import numpy as np
import pandas as pd

from remnant.finding import Finding


def test_an_empty_table_comes_back_with_its_types():
    table = pd.DataFrame({"example": np.empty(0, object), "number": np.empty(0, int), "share": np.empty(0)})
    finding = Finding("a", "?", {}, (), {"none": table})
    again = Finding.from_dict(json.loads(json.dumps(finding.to_dict()))).tables["none"]
    assert again.dtypes.tolist() == table.dtypes.tolist()
