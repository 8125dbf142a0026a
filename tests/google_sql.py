"""Run a BigQuery query with Google's own SQL engine (its reference implementation, compiled to WebAssembly).

Reads JSON from standard input, {"sql", "parameters": {name: BOOL, INT64, STRING or ARRAY}, "tables": {name: {column: type}}, "rows"}, and
prints JSON: "columns" ({name: type}), the column types of "sql" according to the analyser, and "answer", the result of "rows", a query
without parameters and tables. tests/test_bigquery.py runs it in the emulator's environment.
"""

import json
import sys

from zetasql.api import Analyzer, CatalogBuilder, PreparedQuery, TableBuilder, TypeFactory
from zetasql.types import AnalyzerOptions, LanguageOptions, TypeKind, ZetaSQLBuiltinFunctionOptions

request = json.load(sys.stdin)
kinds = {name: getattr(TypeKind, f"TYPE_{name}") for name in ("INT64", "STRING", "BOOL")}
simple = {name: TypeFactory.create_simple_type(kind) for name, kind in kinds.items()}
types = {**simple, "ARRAY": TypeFactory.create_array_type(simple["STRING"])}
language = LanguageOptions.maximum_features()
catalog = CatalogBuilder("reddit").with_builtin_functions(ZetaSQLBuiltinFunctionOptions(language_options=language))
for table, columns in request["tables"].items():
    builder = TableBuilder(table)
    for column, kind in columns.items():
        builder = builder.add_column(column, kinds[kind])
    catalog = catalog.add_table(builder.build())
parameters = [AnalyzerOptions.QueryParameter(name=name, type=types[kind]) for name, kind in request["parameters"].items()]
statement = Analyzer(AnalyzerOptions(language_options=language, query_parameters=parameters), catalog.build()).analyze_statement(
    request["sql"]
)
names = {kind: name for name, kind in kinds.items()}
columns = {each.name: names[each.column.type.type_kind] for each in statement.output_column_list}
builder = PreparedQuery.builder().set_sql(request["rows"]).set_analyzer_options(AnalyzerOptions(language_options=language))
answered = builder.set_catalog(catalog.build()).prepare().execute().content.table_data.row
values = [[(cell.string_value, cell.int64_value, cell.bool_value) for cell in row.cell] for row in answered]
answer = [[next((value for value in cell if value is not None), None) for cell in row] for row in values]
json.dump({"columns": columns, "answer": answer}, sys.stdout)
