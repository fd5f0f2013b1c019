"""Models of settings, as the embedder loads them."""

from collections.abc import Awaitable, Callable

from services.embedder.ports import Embedded, Model

Load = Callable[..., Awaitable[Model]]


async def embed(model: Model, *texts: str, query: bool = False) -> list[Embedded]:
    """Each text's vector; none may be refused."""
    found = await model.embed(await model.prepare(texts, query=query), None)
    assert all(isinstance(one, Embedded) for one in found)
    return [one for one in found if isinstance(one, Embedded)]
