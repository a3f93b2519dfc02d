#!/bin/sh
# npm @google/genai 2.32.0: generateContent with a tool that the library calls itself (CallableTool, as mcpToTool makes them).
#
# The library asks the model, calls the tool, and asks again with its answer: several requests for one call of generateContent, each of which
# Google bills.
# Expected: usageMetadata is of all of them, or there is a list of them, as automaticFunctionCallingHistory is one of the contents.
# Seen: it is of the last request alone: 955 of 1,875 tokens for one use of a tool, less the more tools are used. The others are in no field, so
# whoever bills by the response misses them; only the HTTP client sees them.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private":true,"type":"module"}' >package.json
npm install --silent --no-audit --no-fund @google/genai@2.32.0 >log 2>&1 || { cat log >&2; exit 1; }
cat >usage.js <<'JS'
import { createServer } from 'node:http'
import { GoogleGenAI } from '@google/genai'

const reply = (part, prompt, answer) => ({
	candidates: [{ index: 0, content: { role: 'model', parts: [part] }, finishReason: 'STOP' }], modelVersion: 'gemini-2.5-flash',
	usageMetadata: { promptTokenCount: prompt, candidatesTokenCount: answer, totalTokenCount: prompt + answer },
})
const replies = [reply({ functionCall: { name: 'clock', args: {} } }, 900, 20), reply({ text: 'It is noon.' }, 950, 5)]
let billed = 0
const server = createServer((request, response) => {
	request.resume()
	const next = replies.shift()
	billed += next.usageMetadata.totalTokenCount
	response.setHeader('content-type', 'application/json')
	response.end(JSON.stringify(next))
})
await new Promise((ok) => server.listen(0, '127.0.0.1', ok))
const client = new GoogleGenAI({ apiKey: 'key', httpOptions: { baseUrl: `http://127.0.0.1:${server.address().port}` } })
const clock = {
	tool: async () => ({ functionDeclarations: [{ name: 'clock', description: 'tells the time', parameters: { type: 'OBJECT', properties: {} } }] }),
	callTool: async () => [{ functionResponse: { name: 'clock', response: { output: 'noon' } } }],
}
const response = await client.models.generateContent({ model: 'gemini-2.5-flash', contents: 'What time is it?', config: { tools: [clock] } })
console.log(`text=${response.text} billed=${billed} stated=${response.usageMetadata.totalTokenCount} history=${response.automaticFunctionCallingHistory.length}`)
server.close()
server.closeAllConnections()
JS
seen=$(node usage.js)
echo "$seen"
if [ "$seen" != "text=It is noon. billed=1875 stated=955 history=3" ]; then
	echo "changed: the usage is no longer that of the last request" >&2
	exit 1
fi
