"""Reddit data in BigQuery: the user's own tables, one per month, named by a pattern, with the columns of the dumps and of fh-bigquery.

Table names are validated and inserted into the query. All values are query parameters.
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
from bot.corpus.warehouse import Selection, parameters, query, window

CALL_SECONDS = 60.0  # timeout of one API call; the query itself may take longer
RETRY = DEFAULT_RETRY.with_timeout(20.0)  # the client's default retries an unreachable address for ten minutes
LOADED = "Loaded by reply-bot from a dump of "  # description of a table, followed by the version of the dump
TYPES = {"score": "INT64", "created_utc": "INT64"}  # all other columns are STRING


@dataclass(frozen=True, slots=True)
class MonthTables:
    """Full names (project.dataset.table) of the tables needed for the pairs of a month, oldest first."""

    comments: tuple[str, ...]
    submissions: tuple[str, ...]

    def versions(self, client: bigquery.Client) -> dict[str, str]:
        """The time of the last change of each table, so that a reloaded table is recognized."""
        return {name: _last_modified(client, name) for name in (*self.comments, *self.submissions)}


def connect(settings: BigQuerySettings) -> bigquery.Client:
    """A client for the billed project. If `endpoint` is set, it is an emulator and gets no credentials."""
    if settings.endpoint:
        options = {"api_endpoint": settings.endpoint}
        return bigquery.Client(project=settings.project or "emulated", credentials=AnonymousCredentials(), client_options=options)
    try:
        return bigquery.Client(project=settings.project or None)
    except OSError:  # raised by the client if it cannot determine the project
        raise UserError(
            "bigquery.project is empty: set it to the Google Cloud project to bill, in the config or BOT_BIGQUERY__PROJECT"
        ) from None


def table_name(client: bigquery.Client, settings: BigQuerySettings, kind: Kind, month: str) -> str:
    """The full table name (project.dataset.table) for a month, from the pattern in the config."""
    pattern = settings.comments if kind is COMMENTS else settings.submissions
    name = pattern.replace("{month}", month.replace("-", "_"))
    return name if name.count(".") == 2 else f"{client.project}.{name}"


def tables(client: bigquery.Client, settings: BigQuerySettings, months: list[str], lookback_months: int) -> dict[str, MonthTables]:
    """The tables for each month. Tables of earlier months and of submissions may be missing.

    Raises:
        UserError: the table with the month's own comments does not exist.
    """
    existing: set[str] = set()
    for kind in (COMMENTS, SUBMISSIONS):
        dataset = table_name(client, settings, kind, months[0]).rpartition(".")[0]
        try:
            existing |= {f"{t.project}.{t.dataset_id}.{t.table_id}" for t in client.list_tables(dataset, retry=RETRY, timeout=CALL_SECONDS)}
        except exceptions.NotFound:
            if kind is COMMENTS:
                raise
    result = {}
    for month in months:
        if (own := table_name(client, settings, COMMENTS, month)) not in existing:
            raise UserError(
                f"{own}: table not found; set bigquery.comments to the pattern of your tables, or load dumps with --load-bigquery"
            )
        names = {
            kind: tuple(n for each in window(month, lookback_months) if (n := table_name(client, settings, kind, each)) in existing)
            for kind in (COMMENTS, SUBMISSIONS)
        }
        result[month] = MonthTables(names[COMMENTS], names[SUBMISSIONS])
    return result


def months_found(
    client: bigquery.Client, settings: BigQuerySettings, tables: dict[str, MonthTables], lookback_months: int
) -> tuple[set[str], set[str]]:
    """The months, with those looked back to, that have a table of comments, and those that have one of submissions."""
    months = {each for month in tables for each in window(month, lookback_months)}
    known = {name for each in tables.values() for name in (*each.comments, *each.submissions)}
    comments, submissions = (
        {month for month in months if table_name(client, settings, kind, month) in known} for kind in (COMMENTS, SUBMISSIONS)
    )
    return comments, submissions


def bytes_scanned(client: bigquery.Client, month: str, selection: Selection, tables: MonthTables) -> int:
    """The number of bytes that the month's query would be billed for. The dry run is free."""
    job = start_query(client, month, selection, tables, bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    return int(job.total_bytes_processed or 0)


def rows(client: bigquery.Client, month: str, selection: Selection, tables: MonthTables, max_bytes_billed: int) -> Iterator[pa.RecordBatch]:
    """Run the query for the month and yield the result in batches, by the storage API except with an emulator.

    BigQuery bills at most `max_bytes_billed`. If the caller stops early, also by Ctrl-C, the query is cancelled.
    """
    prefix, job = f"reply_pairs_{uuid.uuid4().hex}_", None
    try:
        job = start_query(client, month, selection, tables, bigquery.QueryJobConfig(maximum_bytes_billed=max_bytes_billed), prefix)
        storage = None if _is_emulator(client) else bigquery_storage.BigQueryReadClient(credentials=client._credentials)
        yield from job.result(retry=RETRY).to_arrow_iterable(bqstorage_client=storage)
    except BaseException as error:
        if job is None and isinstance(error, exceptions.ClientError):
            raise  # the request was rejected: there is no job
        with suppress(Exception):  # report the original error
            # a job whose response was lost can be identified by its name
            recent = [job] if job else client.list_jobs(max_results=50, retry=DEFAULT_RETRY.with_timeout(5.0), timeout=5.0)
            for each in recent:
                if each is job or each.job_id.startswith(prefix):
                    each.cancel(retry=None, timeout=5.0)
        raise


def max_bytes_billed(scanned: int, tables: MonthTables) -> int:
    """The billing limit for one month's query: the size of its dry run plus 10 %, and BigQuery's minimum of 10 MiB for each table."""
    return int(scanned * 1.1) + (len(tables.comments) + len(tables.submissions)) * (10 << 20)


def load(client: bigquery.Client, settings: BigQuerySettings, kind: Kind, month: str, parquet: Path, version: list[int]) -> str:
    """Load a staged dump into its table and return a message.

    A table that was loaded from the same version of the dump is kept; one from another version is replaced.

    Raises:
        UserError: a table of that name exists that was not loaded by this program.
    """
    import pyarrow.parquet as pq

    name = table_name(client, settings, kind, month)
    count = pq.read_metadata(parquet).num_rows
    dataset = bigquery.Dataset(name.rpartition(".")[0])
    dataset.location = settings.location
    client.create_dataset(dataset, exists_ok=True, retry=RETRY, timeout=CALL_SECONDS)
    try:
        description = client.get_table(name, retry=RETRY, timeout=CALL_SECONDS).description or ""
    except exceptions.NotFound:
        description = LOADED
    if description == f"{LOADED}{version}":
        return f"{name}: already loaded from this dump, kept"
    if not description.startswith(LOADED):
        raise UserError(f"{name}: this table already exists and was not loaded by this program; set another pattern in the config")
    job_config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=[bigquery.SchemaField(key, TYPES.get(key, "STRING")) for key in kind.keys],
    )
    with parquet.open("rb") as file:
        client.load_table_from_file(file, name, job_config=job_config, timeout=CALL_SECONDS).result(retry=RETRY)
    table = client.get_table(name, retry=RETRY, timeout=CALL_SECONDS)
    table.description = f"{LOADED}{version}"  # last, so that an interrupted load is repeated
    client.update_table(table, ["description"], retry=RETRY, timeout=CALL_SECONDS)
    return f"{name}: {count:,} rows loaded"


@contextmanager
def user_errors(settings: BigQuerySettings) -> Iterator[None]:
    """Convert exceptions of the client to UserErrors that tell what to do."""
    where = settings.endpoint or "BigQuery"
    try:
        yield
    except DefaultCredentialsError:
        raise UserError(
            "no Google credentials: run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"
        ) from None
    except RefreshError as error:
        raise UserError(
            f"the Google credentials are no longer accepted ({_line(error)}); run `gcloud auth application-default login`,"
            " or renew the key file"
        ) from None
    except exceptions.Forbidden as error:
        raise UserError(
            f"{where}: access denied ({_line(error)}); your account needs permission to read the tables and run jobs in bigquery.project."
            " The public fh-bigquery tables have been closed since January 2025: load your own with --load-bigquery"
        ) from None
    except exceptions.NotFound as error:
        raise UserError(
            f"{where}: table or dataset not found ({_line(error)}); check project, comments and submissions in bigquery.* of the config"
        ) from None
    except exceptions.BadRequest as error:
        raise UserError(f"{where}: request rejected ({_line(error)}); check bigquery.* in the config") from None
    except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError, ConnectionError, OSError) as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise  # a local file, not the network
        raise UserError(f"{where}: no response ({_line(error)}); check the network and try again") from None


def start_query(
    client: bigquery.Client,
    month: str,
    selection: Selection,
    tables: MonthTables,
    settings: bigquery.QueryJobConfig,
    prefix: str | None = None,
) -> bigquery.QueryJob:
    settings.query_parameters = [_parameter(name, value) for name, value in parameters(month, selection).items()]
    text = query(_union(COMMENTS, tables.comments), _union(SUBMISSIONS, tables.submissions))
    return client.query(text, job_config=settings, job_id_prefix=prefix, retry=RETRY, job_retry=None, timeout=CALL_SECONDS)


def _last_modified(client: bigquery.Client, name: str) -> str:
    modified = client.get_table(name, retry=RETRY, timeout=CALL_SECONDS).modified
    return modified.isoformat() if modified else ""


def _is_emulator(client: bigquery.Client) -> bool:
    return isinstance(client._credentials, AnonymousCredentials)


def _union(kind: Kind, names: tuple[str, ...]) -> str:
    """A subquery over any number of tables."""
    columns = ", ".join(kind.keys)
    if not names:
        nulls = ", ".join(f"CAST(NULL AS {TYPES.get(key, 'STRING')}) AS {key}" for key in kind.keys)
        return f"(SELECT {nulls} FROM UNNEST([1]) AS one WHERE FALSE)"
    return "(" + " UNION ALL ".join(f"SELECT {columns} FROM `{name}`" for name in names) + ")"


def _parameter(name: str, value: Any) -> bigquery.ArrayQueryParameter | bigquery.ScalarQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    return bigquery.ScalarQueryParameter(name, kind_of(value), value)


def kind_of(value: bool | int | str) -> str:
    """The BigQuery type of a parameter.

    >>> kind_of(True), kind_of(7), kind_of("x")
    ('BOOL', 'INT64', 'STRING')
    """
    return "BOOL" if isinstance(value, bool) else "INT64" if isinstance(value, int) else "STRING"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
