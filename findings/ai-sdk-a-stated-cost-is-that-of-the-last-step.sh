#!/bin/sh
# npm ai 6.0.326 with @openrouter/ai-sdk-provider 2.10.0: what a call with a tool has cost, as OpenRouter states it.
#
# OpenRouter states the cost of every reply in its usage, and the provider hands it out as providerMetadata.openrouter.usage.cost.
# Expected: the result of generateText, whose totalUsage adds up the tokens of all steps, has the cost of all of them.
# Seen: it has that of the last step alone: 0.0001 of 0.0201 dollars. totalUsage has 2,050 tokens, and no cost; beside it, usage is of
# the last step too. Whoever bills by the cost adds up result.steps.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund ai@6.0.326 @openrouter/ai-sdk-provider@2.10.0 >log 2>&1 || { cat log >&2; exit 1; }
cat >cost.js <<'JS'
import { createServer } from 'node:http'
import { generateText, jsonSchema, stepCountIs, tool } from 'ai'
import { createOpenRouter } from '@openrouter/ai-sdk-provider'

// The first reply calls a tool and costs most: its prompt was long.
const replies = [
	{
		message: { role: 'assistant', content: null, tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{}' } }] },
		finish_reason: 'tool_calls', usage: { prompt_tokens: 1000, completion_tokens: 20, total_tokens: 1020, cost: 0.02 },
	},
	{
		message: { role: 'assistant', content: 'It is noon.' },
		finish_reason: 'stop', usage: { prompt_tokens: 1000, completion_tokens: 30, total_tokens: 1030, cost: 0.0001 },
	},
]
const server = createServer(async (request, response) => {
	for await (const _ of request) { /* it is read to its end */ }
	const { usage, ...choice } = replies.shift()
	response.setHeader('content-type', 'application/json')
	response.end(JSON.stringify({ id: 'gen-1', object: 'chat.completion', created: 1, model: 'openai/gpt-5', choices: [{ index: 0, ...choice }], usage }))
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const openrouter = createOpenRouter({ apiKey: 'none', baseURL: `http://127.0.0.1:${server.address().port}/api/v1` })
const result = await generateText({
	model: openrouter.chat('openai/gpt-5', { usage: { include: true } }), prompt: 'What time is it?', stopWhen: stepCountIs(3),
	tools: { clock: tool({ description: 'the time', inputSchema: jsonSchema({ type: 'object', properties: {} }), execute: async () => '12:00' }) },
})
const cost = (of) => of.providerMetadata.openrouter.usage.cost
console.log(`steps=${result.steps.length} tokens=${result.totalUsage.totalTokens} total_cost=${result.totalUsage.cost}`)
console.log(`cost=${cost(result)} of_all_steps=${result.steps.reduce((sum, step) => sum + cost(step), 0).toFixed(4)}`)
server.close()
JS
seen=$(node cost.js)
echo "$seen"
want='steps=2 tokens=2050 total_cost=undefined
cost=0.0001 of_all_steps=0.0201'
if [ "$seen" != "$want" ]; then
	echo "changed: the cost of a result is that of all its steps" >&2
	exit 1
fi
