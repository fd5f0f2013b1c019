"""The errors for names: no such index or document, or a name that is taken."""

from services.kit.errors import AlreadyExists, NotFound, Unavailable


def no_index(name: str) -> NotFound:
    """There is no index of that name."""
    return NotFound(
        f"there is no index {name}; ingest a document to make it, or create it", reason="INDEX_NOT_FOUND", field="index"
    )


def no_document(index: str, document_id: str) -> NotFound:
    """There is no document of that id."""
    return NotFound(
        f"there is no document {document_id} in the index {index}", reason="DOCUMENT_NOT_FOUND", field="document_id"
    )


def already_there(name: str) -> AlreadyExists:
    """An index, or an alias, has that name."""
    return AlreadyExists(
        f"the name {name} is taken by an index or an alias; choose another", reason="NAME_TAKEN", field="index"
    )


def no_collection(name: str) -> NotFound:
    """The store has no such collection (any more)."""
    return NotFound(f"there is no collection {name}", reason="COLLECTION_GONE")


def no_document_in_store(document_id: str) -> NotFound:
    """The collection has no such document."""
    return NotFound(f"there is no document {document_id}", reason="DOCUMENT_NOT_FOUND", field="document_id")


def lost_beginning(document_id: str) -> Unavailable:
    """Chunks that were added are not there when the document is committed."""
    return Unavailable(
        f"the store lost the beginning of {document_id}; send it again", reason="STORE_RESTARTED", retry_delay_s=1.0
    )
