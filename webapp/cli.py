"""The command `synclight`.

Each command imports what it needs when it runs: `synclight up` lives as long as the product and must stay small.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webapp.config import Settings, SettingsError, variable_of

if TYPE_CHECKING:
    from webapp.importing.report import FileReport, ImportReport
    from webapp.importing.run import Progress
    from webapp.services import Services

# Settings of the workers alone, which this side of the product never reads.
_WORKER_SETTINGS = {
    "SYNCLIGHT_TOKEN_KEYS": "Fernet keys of the Sage tokens, separated by commas; workers only.",
    "SYNCLIGHT_SAGE_CLIENT_SECRET": "Secret of the application as registered with Sage; workers only.",
    "SYNCLIGHT_SAGE_CALLS_A_MINUTE": "Calls to one company in Sage a minute (100, any number to the sandbox); workers only.",
}
# So many lines of a file are named where each needs no more than its number.
_SHOWN_LINES = 20


_TABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Commands(click.Group):
    """A group whose commands end with one clear line where the fault is not ours."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Exception as error:
            sentence = _sentence(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from error


def _sentence(error: Exception) -> str | None:
    """What to say about an error that an operator can do something about, None for all others."""
    if isinstance(error, SettingsError):
        return str(error)
    # A command that did not import these cannot have met their errors.
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import OperationalError, ProgrammingError

        if isinstance(error, OperationalError):
            return "The database cannot be reached. Start it with `synclight up`, or set DATABASE_URL."
        if isinstance(error, ProgrammingError) and getattr(error.orig, "sqlstate", "") == "42P01":
            return "The database has no tables of this version. Run `synclight migrate`."
    if "redis" in sys.modules:
        from redis import RedisError

        if isinstance(error, RedisError):
            return "Redis cannot be reached. Start it with `synclight up`, or set REDIS_URL."
    return None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="synclight", message="Synclight %(version)s")
def main() -> None:
    """Synclight: whether every record is in step with Sage, live."""


@main.command()
def up() -> None:
    """Run all of it on this machine.

    That is PostgreSQL and Redis where no URL names a server, the sandbox, web, workers and schedule. Ctrl-C stops it.
    """
    from webapp.run.up import UpError
    from webapp.run.up import up as run

    try:
        run(Settings.load(), _tell)
    except UpError as error:
        raise click.ClickException(str(error)) from error


def _tell(line: str) -> None:
    """Print a line of `synclight up`: what matters most stands out on a terminal."""
    if line.startswith("Synclight is ready"):
        line = click.style(line, bold=True)
    elif line.endswith(" ..."):
        line = click.style(line, dim=True)
    # A terminal that was closed takes no more lines, and what runs must be stopped in order all the same.
    with suppress(OSError):
        click.echo(line)


@main.command()
def migrate() -> None:
    """Bring the database to the newest version.

    Makes the database first where its server does not have it.
    """
    from webapp.migrations import create_database, migrate

    settings = Settings.load()
    create_database(settings.database_url)
    migrate(settings.database_url)


@main.command()
def sandbox() -> None:
    """Run the sandbox, a Sage on this machine."""
    # In its own process image, because nothing of this side is needed there.
    os.execv(sys.executable, [sys.executable, "-m", "workers.sandbox"])  # noqa: S606


@main.group()
def keys() -> None:
    """Keys that encrypt the tokens of Sage (SYNCLIGHT_TOKEN_KEYS)."""


@keys.command(name="list")
def list_keys() -> None:
    """Name the keys, and how many connections need each."""
    _run_keys("list")


@keys.command()
def rotate() -> None:
    """Encrypt everything with the first key that an older one encrypted.

    Begin by putting the new key before the old one and restarting the workers; end by taking the old one out.
    """
    _run_keys("rotate")


def _run_keys(command: str) -> None:
    """In a process image of its own, because this side of the product has no keys."""
    settings = Settings.load()
    made = settings.var / "token_keys"
    environment = dict(os.environ)
    # Those that `synclight up` made, where none are set.
    if made.exists() and not {"SYNCLIGHT_TOKEN_KEYS", "SYNCLIGHT_TOKEN_KEYS_FILE"} & environment.keys():
        environment["SYNCLIGHT_TOKEN_KEYS_FILE"] = str(made)
    os.execve(sys.executable, [sys.executable, "-m", "workers.keys", command], environment)  # noqa: S606


@main.command(name="import")
@click.argument("file", type=_TABLE)
@click.option(
    "--kind",
    type=click.Choice(["company", "contact", "product", "order"]),
    default="company",
    show_default=True,
    help="What the rows are.",
)
@click.option("--lines", type=_TABLE, help="Lines of the orders, where they are not found in FILE or beside it.")
@click.option(
    "--connection", type=int, help="Connection that the records belong to; without it the first. See synclight status."
)
@click.option("--dry-run", is_flag=True, help="Do everything but keep it, and say what would be done.")
def import_file(file: Path, kind: str, lines: Path | None, connection: int | None, dry_run: bool) -> None:
    """Create and change records from a CSV file.

    Any usual column names will do. A second import of the same file changes nothing.
    """
    from functools import partial

    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from webapp.companies.importing import import_companies
    from webapp.contacts.importing import import_contacts
    from webapp.importing.table import ImportRefused
    from webapp.orders.importing import import_orders
    from webapp.products.importing import import_products

    if lines is not None and kind != "order":
        raise click.UsageError("Only orders have lines: use --lines with --kind order.")
    imports: dict[str, Callable[[Services, Path, bool, Progress], ImportReport]] = {
        "company": partial(import_companies, connection_id=connection),
        "contact": partial(import_contacts, connection_id=connection),
        "product": partial(import_products, connection_id=connection),
        "order": partial(import_orders, lines=lines, connection_id=connection),
    }
    services = _services()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # On the standard error, so that the report can be kept in a file; and only where somebody looks.
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=None)

        def progress(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        try:
            report = imports[kind](services, file, dry_run, progress)
        except ImportRefused as error:
            raise click.ClickException(str(error)) from error
    for line in _report_lines(report):
        click.echo(line)


def _report_lines(report: FileReport) -> list[str]:
    """An import's report for eyes: how each file was read, each row that was not taken, and the counts last."""
    from webapp.importing.report import ImportReport, LinesReport

    before = report.before if isinstance(report, ImportReport) else []
    lines = [line for one in before for line in (f"{one.file}:", *_report_lines(one), "")]
    if before:
        lines.append(f"{report.file}:")
    lines.append(f"Read as {report.encoding}, with {report.delimiter} between the columns.")
    used = ", ".join(f"{name} = {field}" for name, field in report.columns.items())
    lines.append(f"Columns: {used}.")
    if report.left_out:
        lines.append(f"Left out: {', '.join(report.left_out)}.")
    if report.mended:
        shown = ", ".join(str(line) for line in report.mended[:_SHOWN_LINES])
        more = len(report.mended) - _SHOWN_LINES
        lines.append(
            "Cells with a delimiter but without quotation marks were joined again in these lines: "
            f"{shown}{f' and {more} more' if more > 0 else ''}."
        )
    lines += report.notes
    lines += [f"Line {line}: {reason}" for line, reason in report.refused]
    if isinstance(report, LinesReport):
        lines.append(f"Lines of orders: {report.lines:,} read, {len(report.refused):,} refused.")
    if isinstance(report, ImportReport):
        would = "would be " if report.dry_run else ""
        lines.append(
            f"{report.things.capitalize()}: {report.created} {would}created, {report.changed} {would}changed, "
            f"{report.unchanged} unchanged, {len(report.refused)} refused."
        )
    return lines


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Count records by status; show the connections."""
    from sqlalchemy.orm import Session

    from webapp.overview import read_overview

    with Session(_services().database.engine) as session:
        overview = read_overview(session)
    if as_json:
        click.echo(json.dumps({**overview["modules"], "connections": overview["connections"]}, default=_as_text))
        return
    from rich.console import Console
    from rich.table import Table

    from webapp.status import FILTER_TEXT

    table = Table("", *FILTER_TEXT.values(), box=None, header_style="bold", pad_edge=False)
    for module, counts in overview["modules"].items():
        table.add_row(module.capitalize(), *(str(counts[status]) for status in FILTER_TEXT))
    Console().print(table)
    for connection in overview["connections"]:
        at = connection["last_synchronised_at"]
        click.echo(
            f"Connection {connection['id']} to Sage {connection['product'].capitalize()}"
            f"{', ' + connection['business'] if connection['business'] else ''}: {connection['state']}, "
            f"last synchronised {f'{at:%Y-%m-%d %H:%M:%S %Z}' if at else 'never'}, {connection['waiting']} waiting."
        )
    if not overview["connections"]:
        click.echo("Sage is not connected.")


def _as_text(moment: datetime) -> str:
    """A moment for JSON: ISO 8601."""
    return moment.isoformat()


@main.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def resync(keys: tuple[str, ...]) -> None:
    """Compare records with Sage again, both ways.

    A key is company:42, contact:7, product:3 or order:9, with the number in the address of its page, or
    module:companies, module:contacts, module:products or module:orders for all of them.
    """
    from webapp.sync.resync import UnknownKeyError
    from webapp.sync.resync import resync as ask

    with _services().database.unit_of_work() as work:
        try:
            count = ask(work, list(keys), None)
        except UnknownKeyError as error:
            raise click.ClickException(
                f"There is no {error}. A key is company:NUMBER, contact:NUMBER, product:NUMBER or order:NUMBER, as in the "
                "page's address, or module:companies, module:contacts, module:products or module:orders."
            ) from error
    click.echo(f"{count} {'record is' if count == 1 else 'records are'} being compared with Sage.")


@main.group()
def user() -> None:
    """People who use the app."""


@user.command()
@click.argument("email")
@click.option("--role", type=click.Choice(["sales", "admin"]), required=True)
@click.option("--name", help="Name that others see; without it the part of the address before the @.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the standard input.")
def add(email: str, role: str, name: str | None, password_stdin: bool) -> None:
    """Add a person who can sign in at once."""
    from webapp.users.accounts import EmailTaken, create_user
    from webapp.users.forms import check_person

    services = _services()
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt="Again")
    raw = {"email": email, "role": role, "name": name or email.partition("@")[0], "password": password}
    checked = check_person(raw)
    if checked.errors:
        raise click.ClickException("\n".join(checked.errors.values()))
    values = checked.values
    with services.database.unit_of_work() as work:
        try:
            create_user(work, values["email"], values["name"], values["role"], password)
        except EmailTaken:
            raise click.ClickException(f"{values['email']} is somebody already.") from None
        work.commit()
    click.echo(f"{values['email']} can sign in now.")


@main.command()
def settings() -> None:
    """Show each setting, its value and its default."""
    from pydantic import SecretStr

    # Looked at first, because to load the settings is to read the files.
    given = {name for name, value in os.environ.items() if value}
    loaded = Settings.load()
    for name, field in Settings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [name])
        value = getattr(loaded, name)
        secret = isinstance(value, SecretStr) or name.endswith("_url_setting")
        shown = "" if value is None else "(set)" if secret else str(value)
        _print_setting(variable_of(str(choices[0])), shown, field.default, field.description or "", given)
    for variable, meaning in _WORKER_SETTINGS.items():
        is_given = variable in given or f"{variable}_FILE" in given
        _print_setting(variable, "(set)" if is_given else "", None, meaning, given)


def _print_setting(variable: str, value: str, default: object, meaning: str, given: set[str]) -> None:
    """Print a setting: NAME=value, where the value comes from, and what it is for."""
    origin = "default"
    if variable in given:
        origin = "from the environment"
    elif f"{variable}_FILE" in given:
        origin = f"from {variable}_FILE"
    if origin != "default" and default is not None:
        origin = f"{origin}; default {default}"
    click.echo(f"{click.style(f'{variable}={value}', bold=True)}  ({origin})")
    click.echo(f"    {meaning}")


def _services() -> Services:
    """What commands work with. Their lines of log are for eyes, or for a file."""
    from webapp.logs import configure
    from webapp.services import Services

    configure("cli")
    return Services.open(Settings.load(), application_name="synclight-cli", pool_size=1)


if __name__ == "__main__":
    main()
