"""Steps of extraction, and what was tried in their place: processor seconds and peak memory, on one synthetic dump. Prints a table.

    python benchmarks/extract_steps.py --folder /tmp/bench
    pip install --target /tmp/parsers polars pysimdjson msgspec orjson; PYTHONPATH=/tmp/parsers python benchmarks/extract_steps.py

Writes FOLDER/steps/RC_2018-01.zst, as benchmarks/extract.py does, and its lines as plain JSON. Each step runs in a process of its own, and
its imports are not counted. Parsers read only the keys that the query needs, and end with an Arrow table; those that are not installed are
left out.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
import typer
import zstandard
from extract import MONTH, make_dump
from rich.console import Console
from rich.table import Table

COMMENTS = 400_000
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
KEYS = ("id", "parent_id", "link_id", "subreddit", "author", "body", "score", "created_utc")
KINDS = {key: "BIGINT" if key in ("score", "created_utc") else "VARCHAR" for key in KEYS}
SCHEMA = pa.schema([(key, pa.int64() if kind == "BIGINT" else pa.string()) for key, kind in KINDS.items()])
PAIRS = """SELECT reply.*, parent.body AS comment, parent.score AS comment_karma, parent.created_utc AS comment_utc
FROM {0} AS reply JOIN {0} AS parent ON reply.parent_id = 't1_' || parent.id AND reply.link_id = parent.link_id"""


def lines(plain: Path) -> str:
    """SQL for the needed keys of a file of JSON lines."""
    columns = ", ".join(f"{key}: '{kind}'" for key, kind in KINDS.items())
    return f"(SELECT * FROM read_json('{plain}', format='newline_delimited', columns={{{columns}}}))"


def decompress(plain: Path) -> int:
    with plain.with_suffix(".zst").open("rb") as packed:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed)
        return sum(len(block) for block in iter(partial(stream.read, 1 << 20), b""))


# --- JSON to an Arrow table -----------------------------------------------------------------------------------------------


def by_duckdb(plain: Path) -> pa.Table:
    return duckdb.sql(f"FROM {lines(plain)}").to_arrow_table()


def by_pyarrow(plain: Path) -> pa.Table:
    from pyarrow import json as reader

    return reader.read_json(plain, parse_options=reader.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore"))


def by_polars(plain: Path) -> pa.Table:
    import polars

    kinds = {key: polars.Int64 if kind == "BIGINT" else polars.String for key, kind in KINDS.items()}
    return polars.scan_ndjson(plain, schema=kinds).collect().to_arrow()


def by_line(plain: Path, loads: Callable[[bytes], Any], get: Callable[[Any, str], Any] = lambda row, key: row[key]) -> pa.Table:
    columns: dict[str, list[Any]] = {key: [] for key in KEYS}
    with plain.open("rb") as file:
        for line in file:
            row = loads(line)
            for key, column in columns.items():
                column.append(get(row, key))
            del row  # simdjson parses the next line into the same memory
    return pa.table(columns, schema=SCHEMA)


def by_json(plain: Path) -> pa.Table:
    return by_line(plain, json.loads)


def by_orjson(plain: Path) -> pa.Table:
    import orjson

    return by_line(plain, orjson.loads)


def by_simdjson(plain: Path) -> pa.Table:
    import simdjson

    return by_line(plain, simdjson.Parser().parse)


def by_msgspec(plain: Path) -> pa.Table:
    import msgspec

    kind = msgspec.defstruct("Line", [(key, int if type_ == "BIGINT" else str) for key, type_ in KINDS.items()])
    return by_line(plain, msgspec.json.Decoder(kind).decode, getattr)


# --- to a file of pairs ---------------------------------------------------------------------------------------------------


def staged(plain: Path, compression: str = "zstd") -> Path:
    """JSON lines as Parquet."""
    out = plain.with_suffix(".parquet")
    duckdb.sql(f"COPY (FROM {lines(plain)}) TO '{out}' (FORMAT parquet, COMPRESSION {compression})")
    return out


def pairs(table: str, plain: Path) -> None:
    duckdb.sql(f"COPY ({PAIRS.format(table)}) TO '{plain.parent}/pairs.parquet' (FORMAT parquet, COMPRESSION zstd)")


def by_parquet(plain: Path) -> None:
    pairs(f"read_parquet('{staged(plain)}')", plain)


def straight(plain: Path, read: Callable[[Path], pa.Table]) -> None:
    duckdb.register("arrow_rows", read(plain))
    pairs("arrow_rows", plain)


PARSERS = {"duckdb": by_duckdb, "pyarrow": by_pyarrow, "polars": by_polars, "json": by_json, "orjson": by_orjson, "simdjson": by_simdjson}
PARSERS |= {"msgspec": by_msgspec}
STEPS: dict[str, Callable[[Path], Any]] = {
    "decompress": decompress,
    **{f"JSON to Arrow: {name}": step for name, step in PARSERS.items()},
    **{f"JSON to Parquet: {each}": partial(staged, compression=each) for each in ("zstd", "snappy", "lz4", "uncompressed")},
    "JSON to pairs: Parquet between": by_parquet,
    "JSON to pairs: Arrow of duckdb": partial(straight, read=by_duckdb),
    "JSON to pairs: Arrow of pyarrow": partial(straight, read=by_pyarrow),
}


def main(
    folder: Annotated[Path, typer.Option(help="folder for the dump; needs a gigabyte")] = Path("data/bench"),
    only: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure the steps of extraction."""
    plain = folder / "steps" / f"RC_{MONTH}.json"
    if only is not None:
        STEPS[only](plain.parent / "warm-up.json")  # imports what it needs
        before = time.process_time()
        STEPS[only](plain)
        print(time.process_time() - before, int(PEAK.findall(Path("/proc/self/status").read_text())[0]) / 1024)
        return
    plain.parent.mkdir(parents=True, exist_ok=True)
    if not plain.exists():
        make_dump(plain.with_suffix(".zst"), COMMENTS)
        with plain.with_suffix(".zst").open("rb") as packed, plain.open("wb") as target:
            zstandard.ZstdDecompressor(max_window_size=2**31).copy_stream(packed, target)
    small = plain.parent / "warm-up.json"
    with plain.open("rb") as whole:
        small.write_bytes(b"".join(next(whole) for _ in range(1000)))
    small.with_suffix(".zst").write_bytes(zstandard.compress(small.read_bytes()))
    table = Table("step", "CPU s", "peak MiB", title=f"{COMMENTS:,} comments, {plain.stat().st_size / 1e6:.0f} MB of JSON")
    for name in STEPS:
        if (parser := name.rpartition(" ")[2]) in PARSERS and importlib.util.find_spec(parser) is None:
            continue
        command = [sys.executable, __file__, "--folder", str(folder), "--only", name]
        seconds, memory = map(float, subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())
        table.add_row(name, f"{seconds:.2f}", f"{memory:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
