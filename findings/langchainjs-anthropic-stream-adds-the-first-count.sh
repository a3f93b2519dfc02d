#!/bin/sh
# npm @langchain/anthropic 1.5.11 with @langchain/core 1.4.0: usage_metadata of a stream of Anthropic's messages.
#
# message_start states the output so far, which is not zero; message_delta states the whole output, that one included
# (Streaming messages, Claude API docs: the counts of message_delta are cumulative).
# Expected: a stream of 50 output tokens has 50, as the same reply has without a stream.
# Seen: output_tokens is the sum of both, 57 where message_start says 7: too much by what it says, in every stream.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund @langchain/anthropic@1.5.11 @langchain/core@1.4.0 >log 2>&1 || { cat log >&2; exit 1; }
cat >usage.js <<'JS'
import { createServer } from 'node:http'
import { ChatAnthropic } from '@langchain/anthropic'

const input = { input_tokens: 100, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const message = { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-sonnet-4-5', content: [], stop_reason: null, stop_sequence: null }
const end = { stop_reason: 'end_turn', stop_sequence: null }
const text = { type: 'text', text: 'Hello' }
const events = [
	{ type: 'message_start', message: { ...message, usage: { ...input, output_tokens: 7 } } },
	{ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
	{ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello' } },
	{ type: 'content_block_stop', index: 0 },
	{ type: 'message_delta', delta: end, usage: { ...input, output_tokens: 50 } },
	{ type: 'message_stop' },
]
const server = createServer(async (request, response) => {
	let body = ''
	for await (const piece of request) body += piece
	if (JSON.parse(body).stream) {
		response.setHeader('content-type', 'text/event-stream')
		response.end(events.map((e) => `event: ${e.type}\ndata: ${JSON.stringify(e)}\n\n`).join(''))
		return
	}
	response.setHeader('content-type', 'application/json')
	response.end(JSON.stringify({ ...message, ...end, content: [text], usage: { ...input, output_tokens: 50 } }))
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const model = new ChatAnthropic({
	model: 'claude-sonnet-4-5', apiKey: 'none', maxRetries: 0, anthropicApiUrl: `http://127.0.0.1:${server.address().port}`,
})
const whole = await model.invoke('Hi')
let streamed
for await (const chunk of await model.stream('Hi')) streamed = streamed ? streamed.concat(chunk) : chunk
console.log(`whole input=${whole.usage_metadata.input_tokens} output=${whole.usage_metadata.output_tokens}`)
console.log(`stream input=${streamed.usage_metadata.input_tokens} output=${streamed.usage_metadata.output_tokens}`)
server.close()
JS
seen=$(node usage.js)
echo "$seen"
want='whole input=100 output=50
stream input=100 output=57'
if [ "$seen" != "$want" ]; then
	echo "changed: a stream has the output that its message_delta states" >&2
	exit 1
fi
