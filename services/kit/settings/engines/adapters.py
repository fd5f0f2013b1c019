"""Names of adapters, as clients ask for them: in requests, labels of metrics and tables."""

from typing import Annotated

from pydantic import Field

ADAPTERS_LIMIT = 256
AdapterName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\s\x00-\x1f]+$")]
