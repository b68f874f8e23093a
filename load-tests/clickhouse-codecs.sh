#!/usr/bin/env bash
# clickhouse-codecs.sh URL FILE… - what the columns of `logs` take on disk and how fast they are, by codec, on real text.
#
# URL is a ClickHouse HTTP interface (as http://127.0.0.1:8123), FILE… are logs of builds, one line a line. The lines are repeated
# until there are a million, as step runs of 20,000 lines with times that go on as a build's do. Everything happens in a database of
# its own, which is removed in the end.
set -euo pipefail
url=$1; shift
db=codecs_$$
sql() { curl -sS --fail-with-body "$url/?database=${2:-$db}" --data-binary "$1" || { echo >&2; exit 1; }; }
trap 'sql "DROP DATABASE IF EXISTS $db" default' EXIT
sql "CREATE DATABASE $db" default
sql "CREATE TABLE text (line String) ENGINE = MergeTree ORDER BY tuple()"
cat "$@" | tr -d '\r' | curl -sS --fail-with-body "$url/?database=$db&query=INSERT+INTO+text+FORMAT+LineAsString" --data-binary @-
have=$(sql "SELECT count() FROM text")
echo "corpus: $have lines, $(sql "SELECT sum(length(line)) FROM text") bytes of text"
sql "CREATE TABLE source ENGINE = MergeTree ORDER BY n AS
  SELECT rowNumberInAllBlocks() AS n, lower(hex(MD5(toString(intDiv(n, 20000))))) AS step_run_id, n % 20000 + 1 AS line_number,
         1790000000000 + intDiv(n, 3) * 7 + (sipHash64(n) % 5 = 0) * 180 AS timestamp_ms, line AS content
  FROM (SELECT line FROM text ARRAY JOIN range(toUInt64(ceil(1000000 / $have))) AS copy ORDER BY copy LIMIT 1000000) SETTINGS max_threads = 1"

# name | type of the column | its value
columns='
step_run_id|String|step_run_id
step_run_id|LowCardinality(String)|step_run_id
line_number|UInt64|line_number
timestamp_ms|Int64|timestamp_ms
timestamp|DateTime|toDateTime(intDiv(timestamp_ms, 1000))
content|String|content'
codecs() {
  case $1 in
    content) echo 'LZ4
LZ4HC(9)
ZSTD(1)
ZSTD(3)
ZSTD(6)' ;;
    step_run_id) echo 'LZ4
ZSTD(1)' ;;
    *) echo 'LZ4
ZSTD(1)
Delta, LZ4
Delta, ZSTD(1)
DoubleDelta, LZ4
DoubleDelta, ZSTD(1)
T64, ZSTD(1)' ;;
  esac
}
now() { date +%s%N; }
printf '| column | type | codec | bytes a line | written, million lines/s | read, million lines/s |\n|---|---|---|---|---|---|\n'
while IFS='|' read -r name type value; do
  [ -n "$name" ] || continue
  while read -r codec; do
    sql "CREATE TABLE t (n UInt64 CODEC(DoubleDelta, ZSTD(1)), c $type CODEC($codec)) ENGINE = MergeTree ORDER BY n"
    begin=$(now); sql "INSERT INTO t SELECT n, $value FROM source SETTINGS max_insert_threads = 1, max_threads = 1"; wrote=$(( $(now) - begin ))
    sql "OPTIMIZE TABLE t FINAL"
    size=$(sql "SELECT round(sum(column_data_compressed_bytes) / 1000000, 3) FROM system.parts_columns WHERE database = '$db' AND table = 't' AND column = 'c' AND active")
    begin=$(now); for _ in 1 2 3; do sql "SELECT c FROM t FORMAT Null SETTINGS max_threads = 1" >/dev/null; done; read_=$(( ($(now) - begin) / 3 ))
    printf '| %s | %s | %s | %s | %.1f | %.1f |\n' "$name" "$type" "$codec" "$size" "$(echo "1000000000/$wrote" | bc -l)" "$(echo "1000000000/$read_" | bc -l)"
    sql "DROP TABLE t"
  done < <(codecs "$name")
done <<<"$columns"
