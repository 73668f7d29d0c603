"""Load pandas DataFrames into pandas-db, and get them back as they were.

>>> from pandas_db_sdk.client import DataFrameClient
>>> client = DataFrameClient(api_url="grpc://127.0.0.1:50051")
>>> client.load_dataframe(df, "my-project/dataset1", columns_keys={"date": "Date"})
>>> client.get_dataframe("my-project/dataset1")

| module | what is there |
|---|---|
| ``client`` | :class:`DataFrameClient`, the whole of what callers use, with ``errors`` |
| ``arguments``, ``convert`` | what callers pass, checked; the kinds of frames they give and ask for |
| ``flight_backend``, ``rest_backend`` | the two ways of talking to a server, as ``backend`` describes them |
| ``encoding``, ``decoding``, with ``metadata`` | frames as Arrow tables and back |
| ``columns``, ``objects``, ``indexes``, ``labels``, ``portable`` | their parts, down to single values |
| ``batches``, ``retry``, ``progress`` | how loads are cut, which failures are mended, bars |
| ``flight_sql``, ``statement`` | statements with parameters; which of them write |
"""

from .client import DataFrameClient
from .errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PandasDBError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)

__version__ = "0.1.0"

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataFrameClient",
    "DataLossError",
    "DeadlineExceededError",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "PandasDBError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
]
