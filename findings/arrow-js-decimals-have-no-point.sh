#!/bin/sh
# npm apache-arrow 21.2.0, which hands out the amounts of a column of type Decimal.
#
# A Decimal of Arrow is a whole number and a scale, which the type of the column has: 12.345678901 dollars are 12345678901 with
# a scale of 9. The same holds for what it is given of Parquet, whose DECIMAL becomes this type.
# Expected: an amount that is turned into a text or a number has its point: 12.345678901.
# Seen: it has none. String, Number, a template and a sum give 12345678901: a billion times the amount, without an error; JSON
# has the same in quotes within quotes. Whoever adds costs up divides by 10 ** type.scale, in whole numbers.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' >package.json
npm install --silent --no-audit --no-fund apache-arrow@21.2.0 >log 2>&1 || { cat log >&2; exit 1; }
cat >cost.mjs <<'JS'
import { Decimal, RecordBatchStreamWriter, Table, makeData, makeVector, tableFromIPC } from 'apache-arrow'

// 12.345678901 and 0.5 dollars, each as four words of 32 bits.
const type = new Decimal(9, 18, 128)
const words = new Uint32Array([3755744309, 2, 0, 0, 500000000, 0, 0, 0])
const table = new Table({ cost: makeVector(makeData({ type, length: 2, nullCount: 0, data: words })) })
const read = tableFromIPC(RecordBatchStreamWriter.writeAll(table).toUint8Array(true))

const { scale, precision } = read.schema.fields[0].type
const [first, second] = read.getChild('cost')
console.log(`type=Decimal(${precision}, ${scale})`)
console.log(`text=${first} ${second}`)
console.log(`sum=${Number(first) + Number(second)}`)
console.log(`json=${JSON.stringify({ cost: first })}`)
JS
seen=$(node cost.mjs)
echo "$seen"
want='type=Decimal(18, 9)
text=12345678901 500000000
sum=12845678901
json={"cost":"\"12345678901\""}'
if [ "$seen" != "$want" ]; then
	echo "changed: amounts have their point" >&2
	exit 1
fi
