"""The parser's process: prepares one document after the other under a memory limit. The parent bounds its time."""

import logging
import os
import resource
import sys

import psutil

from services.retriever.core.naming import last_part
from services.retriever.document import Prepared
from services.retriever.failure import FailureCode, IngestFailure, too_large
from services.retriever.frames import answer_frames, become_child
from services.retriever.parsing.exchange import Question, decode_question, encode_answer
from services.retriever.parsing.prepare import prepare
from services.retriever.tokens import MiniLmTokens


def main() -> int:
    """Arguments: memory limit in bytes, characters of a document."""
    become_child()
    memory_bytes, max_text_chars = map(int, sys.argv[1:])
    # A crash of a parser is expected now and then, and its memory belongs to nobody's disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The libraries complain of documents in their own words; the answer says what matters.
    logging.disable(logging.CRITICAL)
    # numpy's threads would reserve a part of the memory limit each, and nothing here multiplies matrices.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    tokens = MiniLmTokens()
    # Libraries reserve address space when they are loaded, a gibibyte at a time, and use next to none of it.
    limit_bytes = memory_bytes + psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    answer_frames(lambda frame: _answer(decode_question(frame), tokens, max_text_chars))
    return 0


def _answer(question: Question, tokens: MiniLmTokens, max_text_chars: int) -> tuple[bytes, bool]:
    """The answer, and whether this process is fit for another document."""
    answer: Prepared | IngestFailure
    name = last_part(question.name)
    try:
        answer = prepare(question, tokens, max_text_chars)
        return encode_answer(answer), True
    except IngestFailure as failure:
        return encode_answer(failure), True
    except MemoryError:
        answer = too_large("PARSE_MEMORY", f"{name} takes too much memory to read; split it or simplify it")
    except RecursionError:
        answer = too_large("PARSE_DEPTH", f"{name} is nested too deeply to read; simplify it")
    except Exception as error:
        answer = IngestFailure(
            FailureCode.INTERNAL,
            "PARSER_FAILED",
            f"{name} could not be read: {type(error).__name__}; save it anew, or as plain text",
        )
    return encode_answer(answer), False


if __name__ == "__main__":
    sys.exit(main())
