"""What every error of this package keeps, wherever it goes."""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_provider_qadzd.errors import Facts, FixFirst, QadzdError, SetAside, TryLater, UnsafePlan

FACTS = Facts(system="zendesk", status=503, details=(("name", "DuplicateValue"),))


@pytest.mark.parametrize(
    "error",
    [
        QadzdError("What."),
        TryLater("Busy.", wait=7.5, unanswered=True, advice="Wait.", facts=FACTS),
        FixFirst("Wrong.", advice="Mend it."),
        SetAside("no_name", "Nameless.", facts=FACTS),
        UnsafePlan("Too much."),
    ],
    ids=["any", "later", "fix", "aside", "unsafe"],
)
def test_an_error_crosses_processes(error: QadzdError) -> None:
    """An error that is pickled or copied says and knows the same afterwards."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
