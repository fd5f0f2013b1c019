"""Generates gen/ from proto/, or (without --write) fails when the committed files differ from what it would write."""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Runs protoc for messages, stubs, their types and the descriptor set, all into `out`."""
    protos = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto/weft").rglob("*.proto"))
    command = [
        sys.executable,
        *("-m", "grpc_tools.protoc"),
        *("-I", "proto", "-I", "proto/vendor"),
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out={out}",
        f"--descriptor_set_out={out / 'weft.binpb'}",
        "--include_imports",
        # Envoy turns error details into JSON by the types in the descriptor set, so they have to be in it.
        *protos,
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    add_role_aliases(out / "weft.binpb")
    for folder in [out / "weft", *sorted(p for p in (out / "weft").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").write_text("")
    (out / "weft" / "py.typed").write_text("")
    for stray in sorted((out / "google").rglob("*"), reverse=True) if (out / "google").exists() else []:
        stray.rmdir() if stray.is_dir() else stray.unlink()
    if (out / "google").exists():
        (out / "google").rmdir()


def add_role_aliases(path: Path) -> None:
    """Lets Envoy read `"role": "user"`: in the descriptor set alone, each role has its name without ROLE_ as well.

    Envoy takes an enum's names in any case. The proto keeps to buf's rules, and stubs know the long names only.
    """
    files = FileDescriptorSet.FromString(path.read_bytes())
    (chat,) = (file for file in files.file if file.name == "weft/chat/v1/chat.proto")
    (role,) = (enum for enum in chat.enum_type if enum.name == "Role")
    role.options.allow_alias = True
    for value in [value for value in role.value if value.number]:
        role.value.add(name=value.name.removeprefix("ROLE_"), number=value.number)
    path.write_bytes(files.SerializeToString(deterministic=True))


def differences(left: Path, right: Path) -> list[str]:
    """Paths that are missing on one side or differ, relative to both."""
    names = {str(p.relative_to(side)) for side in (left, right) for p in side.rglob("*") if p.is_file()}
    names = {name for name in names if "__pycache__" not in name}
    same, *_ = filecmp.cmpfiles(left, right, sorted(names), shallow=False)
    return sorted(names - set(same))


def main() -> int:
    """Returns 1 when gen/ is not what proto/ says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write gen/ instead of comparing")
    if parser.parse_args().write:
        generate(ROOT / "gen")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        changed = differences(ROOT / "gen", Path(folder))
    for name in changed:
        sys.stderr.write(f"gen/{name} is not what proto/ says: run `make gen` and commit it\n")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
