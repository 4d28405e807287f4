"""The command line. Exit 0; 1 what was asked for failed; 2 bad usage or a bad document. Warnings go to stderr."""

import json
import logging
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import click

from forebay_core.spec.cautions import cautions
from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.model import ProxyPool
from forebay_proxy.files import FileError, read_text, reason
from forebay_proxy.stderr import log_to_stderr

FILE = click.option(
    "-f", "--file", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The ProxyPool, YAML."
)


class Failed(click.ClickException):
    """What was asked for failed: one line, exit 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"forebay: {self.message}", err=True)


class BadDocument(Failed):
    """The document is refused: a line per problem, exit 2."""

    exit_code = 2


class Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT with a port from 0 to 65535", param, ctx)
        return host.strip("[]"), int(port)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forebay")
def cli() -> None:
    """A connection-pooling proxy with a backend connection budget that holds at every instant."""
    log_to_stderr()


def read(path: Path) -> tuple[str, ProxyPool]:
    """The document's text and the document. Raises BadDocument."""
    try:
        text = read_text(path)
    except FileError as error:
        raise BadDocument(str(error)) from None
    try:
        return text, load(text, form="local")
    except DocumentError as error:
        raise BadDocument(f"{path} is refused:\n{error}") from None


def warn_of_pure_codec() -> None:
    from forebay_core.http1 import IMPLEMENTATION

    if IMPLEMENTATION == "pure":
        logging.warning("warning: the compiled codec is not in use: requests cost more CPU than they need to")


@cli.command()
@FILE
@click.option("--admin", type=Address(), default="127.0.0.1:9901", show_default=True, help="Where metrics are served.")
def run(path: Path, admin: tuple[str, int]) -> None:
    """Run a pool on this machine: a supervisor and its worker processes."""
    text, pool = read(path)
    for caution in cautions(pool):
        logging.warning("warning: %s", caution)
    warn_of_pure_codec()

    import asyncio

    import uvloop

    from forebay_proxy.admin import serve
    from forebay_proxy.local import Local
    from forebay_proxy.state_directory import StartError
    from forebay_proxy.supervisor import Supervisor

    async def main() -> None:
        supervisor = Supervisor(path, text, pool)
        try:
            runner, admin_port = await serve(Local(supervisor), supervisor.token, *admin)
        except OSError as error:
            raise Failed(f"can't listen on {admin[0]}:{admin[1]}: {reason(error)}") from None
        try:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, supervisor.interrupt, number)
            loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
            loop.add_signal_handler(signal.SIGUSR2, supervisor.replace_all)
            host, port = await supervisor.start()
            logging.info("listening on %s:%d, admin on %s:%d", host, port, admin[0], admin_port)
            await supervisor.over()
        except StartError as error:
            raise Failed(str(error)) from None
        finally:
            await runner.cleanup()

    uvloop.run(main())


@cli.command()
@FILE
@click.option("--admin", type=Address(), default="0.0.0.0:9901", show_default=True, help="Where metrics are served.")
@click.option("--memory", required=True, type=click.Path(path_type=Path), help="The replica's memory, a file.")
@click.option("--token-file", type=click.Path(path_type=Path), help="The admin token, a file. Default: none opens it.")
def worker(path: Path, admin: tuple[str, int], memory: Path, token_file: Path | None) -> None:
    """Run one worker with its own admin port: what a pod runs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until it can drain: as process 1 it would ignore it
    _, pool = read(path)
    warn_of_pure_codec()

    import uvloop

    from forebay_proxy import pod
    from forebay_proxy.state_directory import StartError

    try:
        token = read_text(token_file).strip() if token_file is not None else secrets.token_hex(16)
    except FileError as error:
        raise Failed(str(error)) from None
    try:
        uvloop.run(pod.run(path, pool, memory, *admin, token))
    except StartError as error:
        raise Failed(str(error)) from None


@cli.command()
@FILE
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="How to answer.")
def validate(path: Path, output: str) -> None:
    """Check a document for local mode (forebay run), and say what is wrong with it.

    Fields of a cluster only, such as Secrets, are refused here: in a cluster the API server and the operator check.
    """
    try:
        _, pool = read(path)
    except BadDocument as error:
        if output == "json" and isinstance(error.__context__, DocumentError):
            problems = [problem._asdict() for problem in error.__context__.problems]
            click.echo(json.dumps({"valid": False, "problems": problems}, indent=2))
            raise SystemExit(2) from None
        raise
    for caution in cautions(pool):
        click.echo(f"warning: {caution}", err=True)
    if output == "json":
        click.echo(json.dumps({"valid": True, "name": pool.metadata.name}))
    else:
        click.echo(f"{path}: ProxyPool {pool.metadata.name} is valid")


@cli.command()
@click.argument("url", default="http://127.0.0.1:9901")
@click.option("--once", is_flag=True, help="One look instead of a live table.")
@click.option("--interval", default=1.0, type=click.FloatRange(min=0.1), show_default=True, help="Seconds between.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="How to show it.")
def top(url: str, once: bool, interval: float, output: str) -> None:
    """Watch a running pool: connections, waits and their cause."""
    import asyncio

    from forebay_proxy import top as view

    try:
        asyncio.run(view.top(url, once=once, interval=interval, output=output, out=sys.stdout))
    except view.Unreachable as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        pass


@cli.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    from forebay_core.spec.crd import render

    click.echo(render(), nl=False)


@cli.command()
@click.option("--seconds", default=60.0, type=click.FloatRange(min=5), show_default=True, help="How long it runs.")
def demo(seconds: float) -> None:
    """A small backend, a pool in front of it and load, watched live."""
    import asyncio

    from forebay_proxy.demo import demo as show

    raise SystemExit(asyncio.run(show(seconds)))


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
