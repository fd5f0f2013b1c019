"""`weft ingest` against a real retriever: what is there is not sent again."""

from pathlib import Path

from services.cli.convert import Ingested
from services.cli.indexed import indexed
from services.cli.ingest import Ingest
from tests.rpc.retriever.conftest import Retriever


async def test_files_that_are_there_are_not_sent_again(retriever: Retriever, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    files = [folder / f"{n}.md" for n in range(250)]
    for path in files:
        path.write_text(f"Heron {path.stem} fishes.")

    async def statuses() -> list[str]:
        found: list[Ingested] = []
        known = await indexed(retriever.channel, "", files)
        await Ingest(files, "", 1_000_000, found.append, known).run(retriever.channel)
        assert len(found) == 250
        return sorted({one.status for one in found})

    assert await indexed(retriever.channel, "", files) == {}
    assert await statuses() == ["indexed"]
    assert set(await indexed(retriever.channel, "", files)) == set(map(str, files))
    files[0].write_text("The heron sleeps.")
    assert await statuses() == ["replaced", "unchanged"]
    assert (await retriever.info())[0] == 250
