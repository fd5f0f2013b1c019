"""How ghz gets at a target: TLS, client certificates and metadata. It checks files before anything is sent."""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class WrongAccess(ValueError):
    """Options that cannot be used; the message names the option and says why."""


@dataclass(frozen=True, slots=True)
class Access:
    """Metadata such as a key, and TLS. Without any of its options the connection is plain.

    `server_name` is whom the server's certificate has to name, where that is not the target's host; `skip_verify`
    believes any certificate.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    skip_verify: bool = False

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS: each of its options implies it."""
        return bool(self.tls or self.ca_file or self.cert_file or self.key_file or self.server_name or self.skip_verify)

    def options(self) -> list[str]:
        """ghz's own options for it. Metadata is not among them, since everybody can see a program's arguments."""
        if not self.secure:
            return ["--insecure"]
        named = (
            ("--cacert", self.ca_file),
            ("--cert", self.cert_file),
            ("--key", self.key_file),
            ("--cname", self.server_name),
        )
        return [text for name, value in named if value for text in (name, value)] + ["--skipTLS"] * self.skip_verify

    def metadata_json(self) -> str:
        """The metadata as ghz reads it from its standard input."""
        return json.dumps(dict(self.metadata))

    def check(self) -> None:
        """Raises WrongAccess for files that are missing, unreadable, without a certificate, or not of one pair."""
        if self.skip_verify and (self.ca_file or self.server_name):
            raise WrongAccess("--skip-verify believes any certificate: leave --ca-file and --server-name out, or it")
        if bool(self.cert_file) != bool(self.key_file):
            raise WrongAccess("--cert-file and --key-file belong together: give both")
        files = (("--ca-file", self.ca_file), ("--cert-file", self.cert_file), ("--key-file", self.key_file))
        for option, name in files:
            if name:
                _check_readable(option, name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file:
            _load_ca(context, self.ca_file)
        if self.cert_file:
            _load_pair(context, self.cert_file, self.key_file)


def _check_readable(option: str, name: str) -> None:
    try:
        if Path(name).is_file():
            with Path(name).open("rb") as file:
                file.read(1)
            return
    except OSError as error:
        raise WrongAccess(f"{option}: {name} cannot be read: {error.strerror}") from error
    raise WrongAccess(f"{option}: there is no file {name}")


def _load_ca(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise WrongAccess(f"--ca-file: {file} holds no certificate in PEM form") from error


def _load_pair(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    try:
        # ghz asks for no passphrase, so a key that needs one has to fail here; without this OpenSSL would ask for it.
        context.load_cert_chain(cert_file, key_file, password="")
    except OSError as error:
        raise WrongAccess(
            f"--cert-file, --key-file: {cert_file} and {key_file} are no certificate and its key in PEM form, "
            "the key without a passphrase"
        ) from error
