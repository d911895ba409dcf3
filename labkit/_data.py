"""Where the files that labkit reads lie: in `data/` of a checkout, in `labkit/_data/` of an installed wheel.

One function, so that no other module knows the difference.
"""

from pathlib import Path

__all__ = ["data_file"]

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "_data", _PACKAGE.parent / "data")  # a wheel has the first, a checkout the second


def data_file(name: str) -> Path:
    """The path of a data file.

    Args:
        name: Its path inside the data folder, such as `"claims.json"`.

    Raises:
        FileNotFoundError: If labkit came without it.

    Example:
        >>> data_file("claims.json").name
        'claims.json'
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    places = " nor in ".join(str(folder) for folder in _FOLDERS)
    raise FileNotFoundError(f"name={name!r} is no data file of labkit: it lies neither in {places}.")
