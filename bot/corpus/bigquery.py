"""Reddit in BigQuery: a user's own tables, one a month, named by a pattern and shaped as the dumps (and as fh-bigquery's) are.

The tables' names are checked and put into the query; every value is a query parameter.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud import bigquery, bigquery_storage
from google.cloud.bigquery.retry import DEFAULT_RETRY

from bot.cli import UserError
from bot.config import BigQuerySettings
from bot.corpus.dumps import COMMENTS, SUBMISSIONS, Kind
from bot.corpus.warehouse import Wanted, parameters, query, window

ANSWER_SECONDS = 60.0  # for one call; a query itself may take as long as it needs
RETRY = DEFAULT_RETRY.with_timeout(20.0)  # the client's own goes on for ten minutes against a dead address
LOADED = "Loaded by reply-bot from a dump of "  # a table's description; its bytes and time follow
TYPES = {"score": "INT64", "created_utc": "INT64"}  # the other columns are text


@dataclass(frozen=True, slots=True)
class MonthTables:
    """Full names (project.dataset.table) of the tables that a month's pairs are made from, oldest first."""

    comments: tuple[str, ...]
    submissions: tuple[str, ...]

    def described(self, client: bigquery.Client) -> dict[str, str]:
        """Each table and when it was last changed, so that one that was loaded again is told from the one before."""
        return {name: _changed(client, name) for name in (*self.comments, *self.submissions)}


def connect(settings: BigQuerySettings) -> bigquery.Client:
    """A client for the project that pays. An `endpoint` is an emulator's: it is given no credentials."""
    if settings.endpoint:
        options = {"api_endpoint": settings.endpoint}
        return bigquery.Client(project=settings.project or "emulated", credentials=AnonymousCredentials(), client_options=options)
    try:
        return bigquery.Client(project=settings.project or None)
    except OSError:  # so the client says that it can't tell the project
        raise UserError(
            "bigquery.project is empty: set it to the Google Cloud project that pays, in the config or BOT_BIGQUERY__PROJECT"
        ) from None


def table_name(client: bigquery.Client, settings: BigQuerySettings, kind: Kind, month: str) -> str:
    """project.dataset.table of a month, from the config's pattern."""
    pattern = settings.comments if kind is COMMENTS else settings.submissions
    name = pattern.replace("{month}", month.replace("-", "_"))
    return name if name.count(".") == 2 else f"{client.project}.{name}"


def tables(client: bigquery.Client, settings: BigQuerySettings, months: list[str], lookback_months: int) -> dict[str, MonthTables]:
    """The tables for each month. Those of the months before it, and submissions, may be missing.

    Raises:
        UserError: a month's own table of comments isn't there.
    """
    there: set[str] = set()
    for kind in (COMMENTS, SUBMISSIONS):
        dataset = table_name(client, settings, kind, months[0]).rpartition(".")[0]
        try:
            there |= {f"{t.project}.{t.dataset_id}.{t.table_id}" for t in client.list_tables(dataset, retry=RETRY, timeout=ANSWER_SECONDS)}
        except exceptions.NotFound:
            if kind is COMMENTS:
                raise
    result = {}
    for month in months:
        if (own := table_name(client, settings, COMMENTS, month)) not in there:
            raise UserError(
                f"{own}: table not found; set bigquery.comments to the pattern of your tables, or load dumps with --load-bigquery"
            )
        names = {
            kind: tuple(n for each in window(month, lookback_months) if (n := table_name(client, settings, kind, each)) in there)
            for kind in (COMMENTS, SUBMISSIONS)
        }
        result[month] = MonthTables(names[COMMENTS], names[SUBMISSIONS])
    return result


def bytes_scanned(client: bigquery.Client, month: str, wanted: Wanted, from_: MonthTables) -> int:
    """What the month's query would be billed for; asking is free."""
    job = _start(client, month, wanted, from_, bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    return int(job.total_bytes_processed or 0)


def rows(client: bigquery.Client, month: str, wanted: Wanted, from_: MonthTables, most_bytes: int) -> Iterator[pa.RecordBatch]:
    """What the query answers for the month, as it comes, by the storage API (an emulator has none). BigQuery bills at most `most_bytes`.

    Whoever stops listening, by Ctrl-C too, has the query cancelled.
    """
    prefix, job = f"reply_pairs_{uuid.uuid4().hex}_", None
    try:
        job = _start(client, month, wanted, from_, bigquery.QueryJobConfig(maximum_bytes_billed=most_bytes), prefix)
        storage = None if _is_emulator(client) else bigquery_storage.BigQueryReadClient(credentials=client._credentials)
        yield from job.result(retry=RETRY).to_arrow_iterable(bqstorage_client=storage)
    except BaseException as error:
        if job is None and isinstance(error, exceptions.ClientError):
            raise  # it was refused: there is no job
        with suppress(Exception):  # the first fault is the one to tell
            # a job that was asked for, but whose answer was lost, is known by its name
            recent = [job] if job else client.list_jobs(max_results=50, retry=DEFAULT_RETRY.with_timeout(5.0), timeout=5.0)
            for each in recent:
                if each is job or each.job_id.startswith(prefix):
                    each.cancel(retry=None, timeout=5.0)
        raise


def most_bytes(scanned: int, from_: MonthTables) -> int:
    """A cap for one month's query: what its dry run said, a tenth more, and the 10 MiB that BigQuery bills for any table at least."""
    return int(scanned * 1.1) + (len(from_.comments) + len(from_.submissions)) * (10 << 20)


def load(client: bigquery.Client, settings: BigQuerySettings, kind: Kind, month: str, parquet: Path, version: list[int]) -> str:
    """Put a staged dump into its table; says in a line what was done.

    A table that was loaded from this very dump is kept, one from another version of it is replaced.

    Raises:
        UserError: there is a table of that name that wasn't loaded by this program.
    """
    import pyarrow.parquet as pq

    name = table_name(client, settings, kind, month)
    count = pq.read_metadata(parquet).num_rows
    dataset = bigquery.Dataset(name.rpartition(".")[0])
    dataset.location = settings.location
    client.create_dataset(dataset, exists_ok=True, retry=RETRY, timeout=ANSWER_SECONDS)
    try:
        said = client.get_table(name, retry=RETRY, timeout=ANSWER_SECONDS).description or ""
    except exceptions.NotFound:
        said = LOADED
    if said == f"{LOADED}{version}":
        return f"{name}: loaded from this dump before, kept"
    if not said.startswith(LOADED):
        raise UserError(f"{name}: there is a table of that name already, which isn't ours to replace; set another pattern in the config")
    job_config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=[bigquery.SchemaField(key, TYPES.get(key, "STRING")) for key in kind.keys],
    )
    with parquet.open("rb") as file:
        client.load_table_from_file(file, name, job_config=job_config, timeout=ANSWER_SECONDS).result(retry=RETRY)
    table = client.get_table(name, retry=RETRY, timeout=ANSWER_SECONDS)
    table.description = f"{LOADED}{version}"  # last, so that a broken load is done again
    client.update_table(table, ["description"], retry=RETRY, timeout=ANSWER_SECONDS)
    return f"{name}: {count:,} rows loaded"


@contextmanager
def explained(settings: BigQuerySettings) -> Iterator[None]:
    """Turns what the client raises into one line that says what to do."""
    where = settings.endpoint or "BigQuery"
    try:
        yield
    except DefaultCredentialsError:
        raise UserError(
            "no Google credentials: run `gcloud auth application-default login`, or point GOOGLE_APPLICATION_CREDENTIALS to a key file"
        ) from None
    except RefreshError as error:
        raise UserError(
            f"the Google credentials aren't accepted any more ({_line(error)}); run `gcloud auth application-default login`,"
            " or renew the key file"
        ) from None
    except exceptions.Forbidden as error:
        raise UserError(
            f"{where}: access denied ({_line(error)}); your account must be able to read the tables and to run jobs in bigquery.project."
            " The public fh-bigquery tables have refused everybody since January 2025: load your own with --load-bigquery"
        ) from None
    except exceptions.NotFound as error:
        raise UserError(
            f"{where}: table or dataset not found ({_line(error)}); see bigquery.project, bigquery.comments and bigquery.submissions"
        ) from None
    except exceptions.BadRequest as error:
        raise UserError(f"{where}: refused ({_line(error)}); see bigquery.* in the config") from None
    except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError, ConnectionError, OSError) as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise  # a file of ours, not the network
        raise UserError(f"{where}: no answer ({_line(error)}); check the network and try again") from None


def _start(
    client: bigquery.Client, month: str, wanted: Wanted, from_: MonthTables, settings: bigquery.QueryJobConfig, prefix: str | None = None
) -> bigquery.QueryJob:
    settings.query_parameters = [_parameter(name, value) for name, value in parameters(month, wanted).items()]
    text = query(_union(COMMENTS, from_.comments), _union(SUBMISSIONS, from_.submissions))
    return client.query(text, job_config=settings, job_id_prefix=prefix, retry=RETRY, job_retry=None, timeout=ANSWER_SECONDS)


def _changed(client: bigquery.Client, name: str) -> str:
    modified = client.get_table(name, retry=RETRY, timeout=ANSWER_SECONDS).modified
    return modified.isoformat() if modified else ""


def _is_emulator(client: bigquery.Client) -> bool:
    return isinstance(client._credentials, AnonymousCredentials)


def _union(kind: Kind, names: tuple[str, ...]) -> str:
    """A subquery over several tables, or over none."""
    columns = ", ".join(kind.keys)
    if not names:
        nothing = ", ".join(f"CAST(NULL AS {TYPES.get(key, 'STRING')}) AS {key}" for key in kind.keys)
        return f"(SELECT {nothing} FROM UNNEST([1]) AS one WHERE FALSE)"
    return "(" + " UNION ALL ".join(f"SELECT {columns} FROM `{name}`" for name in names) + ")"


def _parameter(name: str, value: Any) -> bigquery.ArrayQueryParameter | bigquery.ScalarQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, kind_of(value), value)


def kind_of(value: bool | int | str) -> str:
    """BigQuery's type of a parameter.

    >>> kind_of(True), kind_of(7), kind_of("x")
    ('BOOL', 'INT64', 'STRING')
    """
    return "BOOL" if isinstance(value, bool) else "INT64" if isinstance(value, int) else "STRING"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
