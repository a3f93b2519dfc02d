#!/bin/sh
# npm tokenlens 1.3.1, getTokenCosts, given the usage that Vercel's AI SDK hands out.
#
# There inputTokens has the cached tokens in, and cachedInputTokens says how many of them those are.
# Expected: a prompt of which nine tenths come from the cache costs less than the same prompt without a cache: for gpt-5-mini
# (0.25 dollars per million, cached 0.03 in its list) 100 x 0.25 + 900 x 0.03 = 52 micro-dollars of input.
# Seen: all 1,000 are charged in full (250), and the 900 once more at the cache's rate (27), so that what the cache saves is
# added to the bill. The same for every provider of its list.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' >package.json
npm install --silent --no-audit --no-fund tokenlens@1.3.1 >log 2>&1 || { cat log >&2; exit 1; }
cat >cost.mjs <<'JS'
import { getTokenCosts } from 'tokenlens'

const micro = (usd) => Math.round(usd * 1e6)
for (const modelId of ['openai:gpt-5-mini', 'anthropic:claude-sonnet-4-20250514']) {
	const fresh = getTokenCosts({ modelId, usage: { inputTokens: 1000, outputTokens: 20, totalTokens: 1020 } })
	const cached = getTokenCosts({ modelId, usage: { inputTokens: 1000, cachedInputTokens: 900, outputTokens: 20, totalTokens: 1020 } })
	console.log(`${modelId} fresh=${micro(fresh.totalUSD)} cached=${micro(cached.totalUSD)} cached_input=${micro(cached.inputUSD)}`)
}
JS
seen=$(node cost.mjs)
echo "$seen"
want='openai:gpt-5-mini fresh=290 cached=317 cached_input=250
anthropic:claude-sonnet-4-20250514 fresh=3300 cached=3570 cached_input=3000'
if [ "$seen" != "$want" ]; then
	echo "changed: cached tokens are no longer charged twice" >&2
	exit 1
fi
