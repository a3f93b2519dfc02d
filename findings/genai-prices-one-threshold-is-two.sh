#!/bin/sh
# npm @pydantic/genai-prices 0.1.8, calcPrice, at the threshold of OpenAI's prices for long prompts.
#
# OpenAI charges prompts of more than 272,000 tokens at the dearer rates, the same for all models that have such rates.
# Expected: a prompt of exactly 272,000 tokens costs the rate of short prompts for each of them.
# Seen: within one release the tier of gpt-6-sol and gpt-6-luna begins after 272,000 tokens, and that of gpt-6-astra and
# gpt-5.6-sol after 271,999: of two models of one family the same prompt costs 2 dollars per million of one, as below the
# threshold, and 20 in place of 10 of the other. Whoever takes the list over has to give all of them one threshold.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' >package.json
npm install --silent --no-audit --no-fund @pydantic/genai-prices@0.1.8 >log 2>&1 || { cat log >&2; exit 1; }
cat >threshold.mjs <<'JS'
import { calcPrice } from '@pydantic/genai-prices'

for (const model of ['gpt-6-sol', 'gpt-6-luna', 'gpt-6-astra', 'gpt-5.6-sol']) {
	const rate = (n) => {
		const price = calcPrice({ input_tokens: n, output_tokens: 0 }, model, { providerId: 'openai', timestamp: new Date('2026-10-01') })
		return Number(((price.input_price * 1e6) / n).toFixed(6))
	}
	console.log(`${model} ${[271_999, 272_000, 272_001].map(rate).join(' ')}`)
}
JS
seen=$(node threshold.mjs)
echo "$seen"
want='gpt-6-sol 2 2 4
gpt-6-luna 0.1 0.1 0.2
gpt-6-astra 10 20 20
gpt-5.6-sol 4 8 8'
if [ "$seen" != "$want" ]; then
	echo "changed: the models no longer differ by a token" >&2
	exit 1
fi
