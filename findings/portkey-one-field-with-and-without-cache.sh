#!/bin/sh
# @portkey-ai/gateway 1.15.2: what prompt_tokens means depends on who serves Claude, and cached_tokens can be more than it.
#
# The same model and the same counts at Anthropic and at Bedrock: 10 tokens of new input, 700 read from the cache, 50 written
# to it, 20 of output. Both are asked for in OpenAI's format, in which cached_tokens are a part of prompt_tokens.
# Expected: one meaning of prompt_tokens, 760 by OpenAI's reference, for a gateway that makes providers alike.
# Seen: 760 by Bedrock, and 10 by Anthropic, beside cached_tokens of 700; total_tokens are 780 for both. Who subtracts cached_tokens from
# prompt_tokens bills -690 tokens of input for the one, who does not bills the cache twice for the other. Of Gemini the prompt
# of its tools is in total_tokens alone.
set -eu
dir=$(mktemp -d)
up='' gateway=''
trap 'for p in $up $gateway; do kill "$p" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --no-audit --no-fund --loglevel=error @portkey-ai/gateway@1.15.2 >log 2>&1 || { cat log >&2; exit 1; }
cat >upstream.mjs <<'JS'
import http from 'node:http'
import fs from 'node:fs'
const server = http.createServer((request, reply) => {
  request.resume()
  request.on('end', () => {
    reply.setHeader('content-type', 'application/json')
    if (request.url.includes('converse')) {
      reply.end(JSON.stringify({ output: { message: { role: 'assistant', content: [{ text: 'Paris.' }] } }, stopReason: 'end_turn', metrics: { latencyMs: 1 },
        usage: { inputTokens: 10, outputTokens: 20, cacheReadInputTokens: 700, cacheWriteInputTokens: 50, totalTokens: 780 } }))
    } else if (request.url.includes('generateContent')) {
      reply.end(JSON.stringify({ candidates: [{ content: { role: 'model', parts: [{ text: 'Paris.' }] }, finishReason: 'STOP', index: 0 }], modelVersion: 'gemini-2.5-flash', responseId: 'r',
        usageMetadata: { promptTokenCount: 100, candidatesTokenCount: 20, thoughtsTokenCount: 300, toolUsePromptTokenCount: 7, totalTokenCount: 427 } }))
    } else {
      reply.end(JSON.stringify({ id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-sonnet-4-5', content: [{ type: 'text', text: 'Paris.' }], stop_reason: 'end_turn',
        usage: { input_tokens: 10, output_tokens: 20, cache_read_input_tokens: 700, cache_creation_input_tokens: 50 } }))
    }
  })
})
server.listen(0, '127.0.0.1', () => fs.writeFileSync('port', String(server.address().port)))
JS
node upstream.mjs &
up=$!
free=$(node -e "const s = require('net').createServer(); s.listen(0, '127.0.0.1', () => { console.log(s.address().port); s.close() })")
node node_modules/@portkey-ai/gateway/build/start-server.js --port="$free" --headless >gateway.log 2>&1 &
gateway=$!
cat >ask.mjs <<'JS'
import fs from 'node:fs'
const [gateway] = process.argv.slice(2)
const upstream = `http://127.0.0.1:${fs.readFileSync('port', 'utf8')}`
const ask = async (name, model, path, more = {}) => {
  const reply = await fetch(`http://127.0.0.1:${gateway}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer none', 'x-portkey-provider': name, 'x-portkey-custom-host': upstream + path, ...more },
    body: JSON.stringify({ model, max_tokens: 100, messages: [{ role: 'user', content: 'What is the capital of France?' }] }),
  })
  const u = (await reply.json()).usage
  console.log(name, 'prompt', u.prompt_tokens, 'cached', u.prompt_tokens_details?.cached_tokens ?? 0, 'completion', u.completion_tokens,
    'reasoning', u.completion_tokens_details?.reasoning_tokens ?? 0, 'total', u.total_tokens)
}
await ask('anthropic', 'claude-sonnet-4-5', '/v1')
await ask('bedrock', 'us.anthropic.claude-sonnet-4-5', '', { 'x-portkey-aws-access-key-id': 'a', 'x-portkey-aws-secret-access-key': 'b', 'x-portkey-aws-region': 'us-east-1' })
await ask('google', 'gemini-2.5-flash', '')
JS
tries=0
until [ -s port ] && node -e "require('net').connect($free, '127.0.0.1').on('connect', () => process.exit(0)).on('error', () => process.exit(1))"; do
	tries=$((tries + 1))
	[ "$tries" -lt 60 ] || { cat gateway.log >&2; exit 1; }
	sleep 1
done
seen=$(node ask.mjs "$free")
echo "$seen"
want='anthropic prompt 10 cached 700 completion 20 reasoning 0 total 780
bedrock prompt 760 cached 700 completion 20 reasoning 0 total 780
google prompt 100 cached 0 completion 20 reasoning 300 total 427'
if [ "$seen" != "$want" ]; then
	echo "changed: prompt_tokens of the two are alike now" >&2
	exit 1
fi
