#!/bin/sh
# npm ai-sdk-cost-calculator 7.1.14: calculateEmbeddingCost and createEmbeddingCostTracker.
#
# A search query is some 20 tokens. At text-embedding-3-small's 0.02 dollars per million that is 0.0000004 dollars.
# Expected: 100,000 such calls cost 0.04 dollars.
# Seen: each call is rounded to whole micro-dollars, which is 0, and so is the sum. The tracker adds the rounded calls too: it counts
# 2,000,000 tokens and a cost of 0.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true}' >package.json
npm install --silent --no-audit --no-fund ai-sdk-cost-calculator@7.1.14 >log 2>&1 || { cat log >&2; exit 1; }
cat >cost.mjs <<'JS'
import { calculateEmbeddingCost, createEmbeddingCostTracker } from 'ai-sdk-cost-calculator'

const model = 'text-embedding-3-small'
const tracker = createEmbeddingCostTracker({ model })
let sum = 0
for (let i = 0; i < 100000; i++) {
	sum += calculateEmbeddingCost({ model, usage: { tokens: 20 } }).totalCost
	tracker.addUsage({ tokens: 20 })
}
console.log(`calls=${sum} tracker=${tracker.getTotalCost().totalCost} tokens=${tracker.getTotalTokens()}`)
JS
seen=$(node cost.mjs)
echo "$seen"
if [ "$seen" != "calls=0 tracker=0 tokens=2000000" ]; then
	echo "changed: a call is rounded in another way" >&2
	exit 1
fi
