"""Header values read without trust: absent, empty and malformed are all "nothing"."""

import contextlib
import logging
import math
import warnings

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence


@contextlib.contextmanager
def quiet():
    """No word from pydicom, whose warnings and log lines quote header values."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def values(dataset: Dataset, keyword: str) -> tuple:
    """The components of an element, () where it is absent, empty or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom converts on access; any defect of the value ends here
        return ()
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, MultiValue | Sequence | list | tuple):
        return tuple(value)
    return (value,)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The components as floats, NaN for one that is no finite number."""
    return tuple(_number(value) for value in values(dataset, keyword))


def _number(value) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def number(dataset: Dataset, keyword: str, default: float = math.nan) -> float:
    """The first component as a float; `default` where there is none."""
    found = numbers(dataset, keyword)
    return found[0] if found and not math.isnan(found[0]) else default


def whole(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """The first component as an int; `default` where there is none."""
    found = number(dataset, keyword)
    return default if math.isnan(found) else int(found)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """The components as upper-case strings without space around them."""
    return tuple(str(value).strip().upper() for value in values(dataset, keyword))


def text(dataset: Dataset, keyword: str) -> str:
    """The first component as an upper-case string, '' where there is none."""
    found = texts(dataset, keyword)
    return found[0] if found else ""


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence."""
    found = values(dataset, keyword)
    return tuple(item for item in found if isinstance(item, Dataset))
