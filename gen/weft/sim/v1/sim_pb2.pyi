import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Faults(_message.Message):
    __slots__ = ("fail_share", "refuse_share", "garbage_share", "hang", "hang_after_tokens", "slow_factor", "die_after_tokens", "seed")
    FAIL_SHARE_FIELD_NUMBER: _ClassVar[int]
    REFUSE_SHARE_FIELD_NUMBER: _ClassVar[int]
    GARBAGE_SHARE_FIELD_NUMBER: _ClassVar[int]
    HANG_FIELD_NUMBER: _ClassVar[int]
    HANG_AFTER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SLOW_FACTOR_FIELD_NUMBER: _ClassVar[int]
    DIE_AFTER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    fail_share: float
    refuse_share: float
    garbage_share: float
    hang: _duration_pb2.Duration
    hang_after_tokens: int
    slow_factor: float
    die_after_tokens: int
    seed: int
    def __init__(self, fail_share: _Optional[float] = ..., refuse_share: _Optional[float] = ..., garbage_share: _Optional[float] = ..., hang: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., hang_after_tokens: _Optional[int] = ..., slow_factor: _Optional[float] = ..., die_after_tokens: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class SetFaultsRequest(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: Faults
    def __init__(self, faults: _Optional[_Union[Faults, _Mapping]] = ...) -> None: ...

class SetFaultsResponse(_message.Message):
    __slots__ = ("faults",)
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    faults: Faults
    def __init__(self, faults: _Optional[_Union[Faults, _Mapping]] = ...) -> None: ...

class GetFaultsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFaultsResponse(_message.Message):
    __slots__ = ("faults", "failed", "refused", "garbled", "hangs")
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    GARBLED_FIELD_NUMBER: _ClassVar[int]
    HANGS_FIELD_NUMBER: _ClassVar[int]
    faults: Faults
    failed: int
    refused: int
    garbled: int
    hangs: int
    def __init__(self, faults: _Optional[_Union[Faults, _Mapping]] = ..., failed: _Optional[int] = ..., refused: _Optional[int] = ..., garbled: _Optional[int] = ..., hangs: _Optional[int] = ...) -> None: ...
